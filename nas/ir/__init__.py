"""Plain data that every pass reads and writes. No torch here; JSON round-trips exactly."""

from nas.ir.blocks import (
    BlockSpec,
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    LinearMap,
    Precision,
    Skip,
    in_float,
    in_precision,
    parse_spec,
    precision_of,
)
from nas.ir.latency import Conditions, Latency, Phase
from nas.ir.network import (
    Architecture,
    Candidate,
    ChainShape,
    DecoderShape,
    EncoderShape,
    Slot,
    SlotKind,
    parse_shape,
)
from nas.ir.problem import Budget, Option, Problem, RefineStep, Solution

__all__ = [
    "Architecture",
    "BlockSpec",
    "Budget",
    "Candidate",
    "ChainShape",
    "Conditions",
    "DecoderShape",
    "EncoderShape",
    "FeedForward",
    "GatedFeedForward",
    "GroupedQueryAttention",
    "KeepTeacher",
    "Latency",
    "LinearMap",
    "Option",
    "Phase",
    "Precision",
    "Problem",
    "RefineStep",
    "Skip",
    "Slot",
    "SlotKind",
    "Solution",
    "in_float",
    "in_precision",
    "parse_shape",
    "parse_spec",
    "precision_of",
]
