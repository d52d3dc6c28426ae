"""What every meter does: latencies for a list of requests, under the target's conditions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nas.config import TargetConfig
from nas.ir import (
    BlockSpec,
    Candidate,
    ChainShape,
    Conditions,
    KeepTeacher,
    Latency,
    Phase,
    Skip,
    SlotKind,
)
from nas.meters._costs import CostTable, block_key

Part = SlotKind
"""A kind of slot, or `embed` or `head`."""


@dataclass(frozen=True)
class Request:
    """One thing to measure in one phase.

    `part` is a slot kind, with the resolved `spec` of its block (a skip only where a norm is left
    of it), or `embed` (embedding, mask and rotary factors) or `head` (final norm and projection to
    the vocabulary, or pooling), without one.
    """

    part: Part
    phase: Phase
    spec: BlockSpec | None = None

    def __post_init__(self) -> None:
        if (self.spec is None) != (self.part in ("embed", "head")):
            raise ValueError(f"{self.part}: a slot's block needs a spec, other parts have none")
        if isinstance(self.spec, KeepTeacher):
            raise ValueError("the teacher's block is measured by what it is; resolve it")

    @property
    def key(self) -> str:
        """The key in the cost table: `embed`, `head` or such as `attention/kv3`."""
        return self.part if self.block is None else block_key(*self.block)

    @property
    def block(self) -> tuple[SlotKind, BlockSpec] | None:
        """Slot kind and specification; None for the parts outside the slots."""
        if self.spec is None or self.part == "embed" or self.part == "head":
            return None
        return self.part, self.spec


def requests_for(
    shape: ChainShape, candidates: Iterable[Candidate], phases: Sequence[Phase]
) -> tuple[Request, ...]:
    """Every distinct request that a search over `candidates` and the teacher needs.

    Layers share a request wherever their blocks have the same shape.
    """
    blocks: dict[tuple[SlotKind, BlockSpec], None] = {}
    for slot in shape.slots():
        blocks[slot.kind, shape.resolve(slot, KeepTeacher())] = None
    for candidate in candidates:
        spec = shape.resolve(candidate.slot, candidate.spec)
        if not (isinstance(spec, Skip) and shape.pre_norm):
            blocks[candidate.slot.kind, spec] = None
    return tuple(
        request
        for phase in phases
        for request in (
            Request("embed", phase),
            *(Request(kind, phase, spec) for kind, spec in blocks),
            Request("head", phase),
        )
    )


def seen_by(config: TargetConfig, shape: ChainShape) -> TargetConfig:
    """The target as a network of `shape` meets it: a picture counts as one token."""
    return config.model_copy(update={"prompt_tokens": 1}) if shape.reads_pictures else config


class Meter(ABC):
    """Latencies for one network shape on one target."""

    def __init__(self, config: TargetConfig, shape: ChainShape) -> None:
        self.config = seen_by(config, shape)
        self.shape = shape

    @abstractmethod
    def conditions(self, phase: Phase) -> Conditions:
        """The conditions of every latency that this meter gives for a phase."""

    @abstractmethod
    def measure(self, requests: Sequence[Request]) -> list[Latency]:
        """One latency a request, in the order of the requests."""

    def cost_table(self, requests: Sequence[Request]) -> CostTable:
        """Measure and file the latencies under their keys."""
        latencies = self.measure(requests)
        return CostTable.of(
            (request.key, request.phase, latency)
            for request, latency in zip(requests, latencies, strict=True)
        )
