"""Teacher, student and baselines beside each other: speed, quality, distillation, tasks."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from nas.ir import Latency, Phase
from nas.report._records import Record

Role = Literal["teacher", "student", "baseline"]
_RELATIVE_TOLERANCE = 1e-6


class PhaseLatency(Record):
    """Predicted and measured latency of a whole model in one phase.

    `error_percent` = 100 * (predicted - measured) / measured, and the same at the pace of the
    measurement with pace * predicted; `speedup` = the teacher's measured median over this one's.
    All None while one side is not known.
    """

    phase: Phase
    scenario: str | None = None
    """Whose conditions these are; None for the target's own."""
    predicted_ms: PositiveFloat | None = None
    measured_median_ms: PositiveFloat | None = None
    measured_p90_ms: PositiveFloat | None = None
    spread: NonNegativeFloat | None = None
    """Interquartile range of the samples over their median."""
    samples: NonNegativeInt = 0
    pace: PositiveFloat | None = None
    """Time of the teacher's blocks measured again beside the networks, over the cost table's."""
    error_percent: float | None = None
    error_at_pace_percent: float | None = None
    tokens_per_s: PositiveFloat | None = None
    speedup: PositiveFloat | None = None

    @classmethod
    def of(
        cls,
        phase: Phase,
        *,
        scenario: str | None = None,
        predicted_ms: float | None = None,
        measured: Latency | None = None,
        pace: float | None = None,
        teacher: PhaseLatency | None = None,
    ) -> Self:
        """Derive the rest. `teacher`: its latency in the same phase (None for the teacher)."""
        if measured is None:
            return cls(phase=phase, scenario=scenario, predicted_ms=predicted_ms)
        median = measured.median_ms
        reference = teacher.measured_median_ms if teacher else None
        return cls(
            phase=phase,
            scenario=scenario,
            predicted_ms=predicted_ms,
            measured_median_ms=median,
            measured_p90_ms=measured.p90_ms,
            spread=measured.spread,
            samples=len(measured.samples_ms),
            pace=pace,
            error_percent=_error_percent(predicted_ms, median),
            error_at_pace_percent=_error_percent(predicted_ms, median, pace),
            tokens_per_s=measured.tokens_per_s,
            speedup=None if reference is None else reference / median,
        )

    @model_validator(mode="after")
    def _error_matches(self) -> Self:
        for name, pace in (("error_percent", 1.0), ("error_at_pace_percent", self.pace)):
            given = getattr(self, name)
            expected = _error_percent(self.predicted_ms, self.measured_median_ms, pace)
            if given is None or (expected is not None and close(given, expected)):
                continue
            raise ValueError(f"{name} is {given}, expected {expected}")
        return self


class Quality(Record):
    """How near a model is to the teacher on held-out text: a language model by `kl_nats` and what
    follows, an encoder by `cosine_distance` and what follows."""

    tokens: NonNegativeInt
    """Held-out tokens that were judged."""
    kl_nats: float | None = None
    """KL(teacher || model), mean over tokens."""
    kl_stderr_nats: NonNegativeFloat | None = None
    perplexity: PositiveFloat | None = None
    perplexity_ratio: PositiveFloat | None = None
    """Perplexity over the teacher's."""
    top1_agreement: float | None = Field(default=None, ge=0, le=1)
    """Share of positions at which model and teacher put the same token first."""
    greedy_agreement_tokens: NonNegativeFloat | None = None
    """Mean count of tokens until free-running greedy text leaves the teacher's."""
    greedy_length_tokens: int | None = Field(default=None, gt=0)
    """Tokens generated for each prompt, the most that can agree."""
    cosine_distance: NonNegativeFloat | None = None
    """1 - cos(teacher, model) of the embedding of a text, mean over texts."""
    cosine_distance_stderr: NonNegativeFloat | None = None
    similarity_spearman: float | None = Field(default=None, ge=-1, le=1)
    """Rank correlation of the similarities of all pairs of texts with the teacher's."""
    recall_at_10: float | None = Field(default=None, ge=0, le=1)
    """Share of the teacher's ten nearest texts among the model's ten."""

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.kl_nats is None) == (self.cosine_distance is None):
            raise ValueError("give kl_nats of a language model or cosine_distance of an encoder")
        return self

    @property
    def language(self) -> bool:
        return self.kl_nats is not None

    @property
    def classes(self) -> bool:
        """Whether it is of a classifier, whose KL has no perplexity beside it."""
        return self.language and self.perplexity is None

    @property
    def distance(self) -> float:
        """How far from the teacher, by the measure of its kind."""
        value = self.kl_nats if self.language else self.cosine_distance
        assert value is not None
        return value

    @property
    def distance_stderr(self) -> float | None:
        return self.kl_stderr_nats if self.language else self.cosine_distance_stderr

    @property
    def measure(self) -> str:
        """What `distance` is, in words."""
        return "KL" if self.language else "embedding distance"


class RefitSummary(Record):
    """What pairs that learnt together, and regressing the output layers anew, did to an assembled
    model, on the scoring text."""

    from_library_nats: float
    """KL(teacher || model) with the library's blocks as they are."""
    coupled_nats: float | None = None
    """The same after pairs of a layer learnt together; None where that was not kept."""
    refitted_nats: float | None = None
    """The same with output layers regressed anew; None where that was not asked for."""
    kept: bool
    """Whether the model goes on from the refitted layers."""


class DistillationSummary(Record):
    """Global distillation of one model."""

    steps: NonNegativeInt
    tokens: NonNegativeInt
    seconds: NonNegativeFloat
    curve_steps: tuple[int, ...] = ()
    curve_losses: tuple[float, ...] = ()
    """Training loss at each of `curve_steps`."""

    @model_validator(mode="after")
    def _curve_is_paired(self) -> Self:
        if len(self.curve_steps) != len(self.curve_losses):
            raise ValueError("curve_steps and curve_losses differ in length")
        if list(self.curve_steps) != sorted(set(self.curve_steps)):
            raise ValueError("curve_steps must ascend")
        return self


class ModelSummary(Record):
    """The teacher, the student or a baseline."""

    name: str
    role: Role
    description: str = ""
    """How it was made, in a line."""
    params_m: PositiveFloat
    memory_mib: PositiveFloat | None = None
    """Weights, and the KV cache of the whole batch at full length."""
    kv_mib_per_sequence: NonNegativeFloat | None = None
    latency: tuple[PhaseLatency, ...] = ()
    quality_before: Quality | None = None
    """Before distillation; None for the teacher, or if there was none."""
    quality: Quality | None = None
    """As delivered."""
    refit: RefitSummary | None = None
    """None for the teacher, or without a refit."""
    distillation: DistillationSummary | None = None

    @model_validator(mode="after")
    def _one_latency_a_phase(self) -> Self:
        phases = [(latency.scenario, latency.phase) for latency in self.latency]
        if len(set(phases)) != len(phases):
            raise ValueError(f"model {self.name} names a phase twice")
        return self

    def latency_of(self, phase: Phase, scenario: str | None = None) -> PhaseLatency | None:
        """Under the target's own conditions, or those of a scenario."""
        wanted = (scenario, phase)
        return next((one for one in self.latency if (one.scenario, one.phase) == wanted), None)


class TaskSummary(Record):
    """Accuracy on one task, teacher beside student."""

    name: str
    metric: str = "accuracy"
    examples: int = Field(gt=0)
    teacher_accuracy: float = Field(ge=0, le=1)
    student_accuracy: float = Field(ge=0, le=1)
    retained: NonNegativeFloat | None = None
    """Student over teacher; None when the teacher scores 0."""
    retained_low: float | None = None
    retained_high: float | None = None
    """With `retained_low`, the 95 % interval of `retained`."""


def close(a: float, b: float) -> bool:
    """Equal but for rounding."""
    return math.isclose(a, b, rel_tol=_RELATIVE_TOLERANCE, abs_tol=1e-9)


def _error_percent(
    predicted_ms: float | None, measured_ms: float | None, pace: float | None = 1.0
) -> float | None:
    if predicted_ms is None or measured_ms is None or pace is None:
        return None
    return 100.0 * (pace * predicted_ms - measured_ms) / measured_ms
