"""Meters: what a block, the embedding and the head cost under a target's conditions."""

from nas.meters._base import Meter, Request, requests_for, seen_by
from nas.meters._calibration import Calibration, calibrate, load_calibration
from nas.meters._costs import CostTable, block_key
from nas.meters._efficiency import (
    FORMS,
    Curve,
    Efficiency,
    Form,
    Observation,
    Roof,
    cross_validated,
    fit_curve,
    relative_errors,
    root_mean_square,
)
from nas.meters._factory import create_meter, require_at_hand
from nas.meters._onnxruntime import OnnxRuntimeMeter
from nas.meters._operators import Operator, Work, decoder_work
from nas.meters._roofline import LeastWork, RooflineMeter, least_work
from nas.meters._session import TimedSession
from nas.meters._table import MeasuredTable, TableMeter, network_key, read_table
from nas.meters._timing import interleaved, round_paces, settled
from nas.meters._torch import TorchMeter

__all__ = [
    "FORMS",
    "Calibration",
    "CostTable",
    "Curve",
    "Efficiency",
    "Form",
    "LeastWork",
    "MeasuredTable",
    "Meter",
    "Observation",
    "OnnxRuntimeMeter",
    "Operator",
    "Request",
    "Roof",
    "RooflineMeter",
    "TableMeter",
    "TimedSession",
    "TorchMeter",
    "Work",
    "block_key",
    "calibrate",
    "create_meter",
    "cross_validated",
    "decoder_work",
    "fit_curve",
    "interleaved",
    "least_work",
    "load_calibration",
    "network_key",
    "read_table",
    "relative_errors",
    "requests_for",
    "require_at_hand",
    "root_mean_square",
    "round_paces",
    "seen_by",
    "settled",
]
