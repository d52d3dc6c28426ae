"""What a run was made of and where: teacher, data, target, machine, passes and files."""

from __future__ import annotations

import math
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, model_validator

from nas.ir import Conditions, Phase


class Record(BaseModel):
    """Base of everything in `summary.json`: frozen, unknown keys and non-finite numbers refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class TeacherSummary(Record):
    """The network that was compiled."""

    source: str
    family: str
    layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    params_m: float = Field(gt=0)
    """Parameters in millions; tied embeddings count once."""
    fingerprint: str
    """Hash over the teacher's weights."""
    image_side: int | None = Field(default=None, gt=0)
    """Side of the pictures that it takes, in pixels; None where it reads text."""


class DataSummary(Record):
    """The text, and the three parts of it that never overlap."""

    sources: tuple[str, ...] = ()
    sequence_length: int | None = Field(default=None, gt=0)
    train_tokens: NonNegativeInt
    score_tokens: NonNegativeInt
    evaluate_tokens: NonNegativeInt


class ScenarioSummary(Record):
    """One set of conditions, the same for all of its latencies."""

    output_tokens: int | None = Field(default=None, gt=0)
    """Length of the answer that throughput and KV-cache sizes assume."""
    conditions: tuple[Conditions, ...] = Field(min_length=1)
    """One for each phase that was measured."""

    @model_validator(mode="after")
    def _one_a_phase(self) -> Self:
        phases = [c.phase for c in self.conditions]
        if len(set(phases)) != len(phases):
            raise ValueError("target.conditions names a phase twice")
        return self

    def conditions_of(self, phase: Phase) -> Conditions | None:
        return next((c for c in self.conditions if c.phase == phase), None)


class TargetSummary(ScenarioSummary):
    """Where the student runs, and the conditions of every latency that names no scenario."""

    hardware: str
    meter: str
    scenarios: dict[str, ScenarioSummary] = Field(default_factory=dict)
    """Further conditions by name."""
    batch_losses: dict[int, float | None] = Field(default_factory=dict)
    """Where the batch was a choice: summed loss of the best student at each, None where none meets
    the budgets. That of `conditions` was chosen; the others are scenarios."""

    def under(self, scenario: str | None) -> ScenarioSummary | None:
        """The conditions of a scenario, or the target's own; None for an unknown scenario."""
        return self if scenario is None else self.scenarios.get(scenario)


class Environment(Record):
    """The machine and the software that made the run."""

    python: str
    platform: str
    cpu: str
    cores: int = Field(gt=0)
    """Logical cores that this process may use."""
    memory_gib: float = Field(gt=0)
    packages: dict[str, str] = Field(default_factory=dict)


class PassSummary(Record):
    """What one pass cost."""

    name: str
    seconds: NonNegativeFloat
    units_done: NonNegativeInt = 0
    units_reused: NonNegativeInt = 0
    peak_memory_mib: NonNegativeFloat | None = None
    data_seconds: NonNegativeFloat = 0.0
    """Of `seconds`: reading text and sampling it from the teacher."""


class ForecastSummary(Record):
    """What was forecast of a pass before the run, and what came of it.

    Actual figures are of the last time that the pass did all of its work, None before that.
    """

    name: str
    forecast_s: NonNegativeFloat
    actual_s: NonNegativeFloat | None = None
    error_percent: float | None = None
    """Of the forecast time, 100 (forecast / actual - 1)."""
    forecast_disk_mib: NonNegativeFloat
    disk_mib: NonNegativeFloat | None = None
    """Of the files that the pass has on record."""
    forecast_memory_mib: NonNegativeFloat
    peak_memory_mib: NonNegativeFloat | None = None
    """Resident in the run's own process."""

    @classmethod
    def of(cls, forecast_s: float, actual_s: float | None, **known: Any) -> Self:
        error = 100 * (forecast_s / actual_s - 1) if actual_s else math.inf
        known["error_percent"] = error if math.isfinite(error) else None
        return cls(forecast_s=forecast_s, actual_s=actual_s, **known)


class Gate(Record):
    """A check that an exported file had to pass: `value` against `limit`, told in `detail`."""

    name: str
    passed: bool
    value: float | None = None
    limit: float | None = None
    detail: str = ""


class FileSummary(Record):
    """An exported file or folder."""

    path: str
    """Relative to the run directory."""
    kind: str
    bytes: NonNegativeInt
    gates: tuple[Gate, ...] = ()
