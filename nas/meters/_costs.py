"""The cost table: what the search adds up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from nas.errors import ArtifactError, ConfigError
from nas.ir import (
    Architecture,
    BlockSpec,
    ChainShape,
    Conditions,
    KeepTeacher,
    Latency,
    Phase,
    Skip,
    SlotKind,
)

_OF_A_SCENARIO = ("batch", "prompt_tokens")


def block_key(slot_kind: SlotKind, spec: BlockSpec) -> str:
    """Such as `attention/kv3` or `ffn/w768`.

    Raises ValueError for `KeepTeacher`: resolve it first (`ChainShape.resolve`).
    """
    if isinstance(spec, KeepTeacher):
        raise ValueError("resolve the teacher's block before asking what it costs")
    return f"{slot_kind}/{spec.label}"


class CostTable(BaseModel):
    """Latency of every distinct block and of `embed` and `head`, by phase.

    All latencies of a phase share one set of conditions; ConfigError is raised where they do not.
    `scenarios`: tables of the same blocks for other batches and lengths, alike in all the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: dict[str, dict[Phase, Latency]]
    scenarios: dict[str, CostTable] = {}

    @classmethod
    def of(cls, latencies: Iterable[tuple[str, Phase, Latency]]) -> CostTable:
        """A table from (key, phase, latency) triples."""
        entries: dict[str, dict[Phase, Latency]] = {}
        for key, phase, latency in latencies:
            entries.setdefault(key, {})[phase] = latency
        return cls(entries=entries)

    @model_validator(mode="after")
    def _one_set_of_conditions(self) -> Self:
        first: dict[Phase, Conditions] = {}
        for by_phase in self.entries.values():
            for phase, latency in by_phase.items():
                if latency.conditions.phase != phase:
                    raise ValueError(f"a {latency.conditions.phase} latency stands under {phase}")
                first.setdefault(phase, latency.conditions).require_same(latency.conditions)
        return self

    @model_validator(mode="after")
    def _scenarios_of_one_target(self) -> Self:
        for name, table in self.scenarios.items():
            for phase in self.phases:
                if phase not in table.phases:
                    raise ValueError(f"scenario {name} has no {phase} latencies")
                here, there = self.conditions(phase), table.conditions(phase)
                try:
                    here.require_same(there, but=_OF_A_SCENARIO)
                except ConfigError as error:
                    raise ConfigError(f"scenario {name}: {error}") from None
        return self

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that any entry has, prefill first."""
        held = {phase for by_phase in self.entries.values() for phase in by_phase}
        order: tuple[Phase, Phase] = ("prefill", "decode")
        return tuple(phase for phase in order if phase in held)

    def conditions(self, phase: Phase) -> Conditions:
        """What all latencies of a phase share; raises ArtifactError for a phase without any."""
        for by_phase in self.entries.values():
            if phase in by_phase:
                return by_phase[phase].conditions
        raise ArtifactError(f"the cost table has no {phase} latencies; measure that phase")

    def latency(self, key: str, phase: Phase) -> Latency:
        """The latency under a key (`embed`, `head`, `ffn/w768`); raises ArtifactError if absent."""
        try:
            return self.entries[key][phase]
        except KeyError:
            raise ArtifactError(
                f"the cost table has no {phase} latency of {key}; run the pass measure again"
            ) from None

    def latency_ms(self, slot_kind: SlotKind, spec: BlockSpec, phase: Phase) -> float:
        """Median milliseconds of a resolved block; 0 for a skip of which nothing is left."""
        if isinstance(spec, Skip) and block_key(slot_kind, spec) not in self.entries:
            return 0.0
        return self.latency(block_key(slot_kind, spec), phase).median_ms

    def fixed_ms(self, phase: Phase) -> float:
        """What stands outside the slots: embedding and head."""
        return self.latency("embed", phase).median_ms + self.latency("head", phase).median_ms

    def total_ms(self, shape: ChainShape, architecture: Architecture, phase: Phase) -> float:
        """Predicted milliseconds of a whole network: embedding, head and the sum of the blocks."""
        blocks = (
            self.latency_ms(slot.kind, shape.resolve(slot, spec), phase)
            for slot, spec in architecture.items(shape)
        )
        return self.fixed_ms(phase) + sum(blocks)
