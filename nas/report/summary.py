"""`summary.json`: the machine-readable result of a run. The HTML page only renders it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from nas.errors import ArtifactError
from nas.ir import Phase
from nas.profiling import LayerProfile
from nas.report._choice import BudgetSummary, Costs, SlotSummary, SolutionSummary
from nas.report._models import ModelSummary, PhaseLatency, TaskSummary, close
from nas.report._records import (
    DataSummary,
    Environment,
    FileSummary,
    ForecastSummary,
    PassSummary,
    Record,
    TargetSummary,
    TeacherSummary,
)

SCHEMA_VERSION = 1
_PHASES: tuple[Phase, ...] = ("prefill", "decode")


class Summary(Record):
    """Everything that a run found, with its conditions.

    Validation re-derives what can be: the objective from the chosen options, every speed-up and
    perplexity ratio from the teacher's row. A summary that contradicts itself does not load.
    """

    schema_version: Literal[1] = 1
    name: str
    created_at: AwareDatetime
    nas_version: str
    config_digest: str
    """Hash over the resolved configuration."""
    teacher: TeacherSummary
    data: DataSummary
    target: TargetSummary
    environment: Environment
    slots: tuple[SlotSummary, ...] = Field(min_length=1)
    outside: Costs = Costs()
    """What stands outside the slots: embedding, last norm and head."""
    solution: SolutionSummary | None = None
    budgets: tuple[BudgetSummary, ...] = ()
    layers: tuple[LayerProfile, ...] = ()
    """Where teacher and student spend their time under a profiler, by phase."""
    models: tuple[ModelSummary, ...]
    """The teacher, the student, then the baselines."""
    tasks: tuple[TaskSummary, ...] = ()
    passes: tuple[PassSummary, ...] = ()
    forecast: tuple[ForecastSummary, ...] = ()
    """The plan that the run was started with beside what passes took; empty where none was made."""
    files: tuple[FileSummary, ...] = ()

    @property
    def teacher_model(self) -> ModelSummary:
        return next(model for model in self.models if model.role == "teacher")

    @property
    def student(self) -> ModelSummary:
        return next(model for model in self.models if model.role == "student")

    @property
    def baselines(self) -> tuple[ModelSummary, ...]:
        return tuple(model for model in self.models if model.role == "baseline")

    @property
    def language(self) -> bool:
        """Whether losses are KLs of next tokens, in nats; those of an encoder are distances."""
        return self.student.quality is None or self.student.quality.language

    @property
    def pictures(self) -> bool:
        """Whether the networks take pictures, each of which counts as a token."""
        stages = any(slot.kind not in ("attention", "ffn") for slot in self.slots)
        return stages or self.teacher.image_side is not None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that the target's conditions name, prefill first."""
        return tuple(phase for phase in _PHASES if self.target.conditions_of(phase))

    @model_validator(mode="after")
    def _models_are_complete(self) -> Self:
        roles = [model.role for model in self.models]
        for role in ("teacher", "student"):
            if roles.count(role) != 1:
                raise ValueError(f"models: expected one {role}, found {roles.count(role)}")
        for field, names in (
            ("models", [model.name for model in self.models]),
            ("slots", [slot.id for slot in self.slots]),
            ("budgets", [budget.name for budget in self.budgets]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{field}: a name stands twice")
        return self

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        for what, stated, expected in self._derived():
            if not close(stated, expected):
                raise ValueError(f"{what} is {stated}, but its parts give {expected}")
        return self

    def _derived(self) -> Iterator[tuple[str, float, float]]:
        """Name, stated value and value from the parts, of every derived number."""
        if self.solution and self.solution.objective is not None:
            total = math.fsum(slot.choice.loss for slot in self.slots)
            yield "solution.objective", self.solution.objective, total
        for row in self.forecast:
            if row.error_percent is not None:
                error = 100 * (row.forecast_s / row.actual_s - 1) if row.actual_s else math.nan
                yield f"forecast of {row.name}: error_percent", row.error_percent, error
        for model in self.models:
            for latency in model.latency:
                yield from self._derived_speedup(model, latency)
            reference = self.teacher_model.quality
            for quality in (model.quality_before, model.quality):
                if quality and reference and quality.perplexity and reference.perplexity:
                    ratio = quality.perplexity / reference.perplexity
                    stated = quality.perplexity_ratio
                    yield f"{model.name}: perplexity_ratio", stated or math.nan, ratio

    def _derived_speedup(
        self, model: ModelSummary, latency: PhaseLatency
    ) -> Iterator[tuple[str, float, float]]:
        under = self.target.under(latency.scenario)
        if under is None or not under.conditions_of(latency.phase):
            raise ValueError(f"{model.name}: {latency.phase} latency without target.conditions")
        teacher = self.teacher_model.latency_of(latency.phase, latency.scenario)
        mine, theirs = latency.measured_median_ms, teacher.measured_median_ms if teacher else None
        if latency.speedup is None or mine is None or theirs is None:
            return
        yield f"{model.name}: {latency.phase} speedup", latency.speedup, theirs / mine


def load_summary(path: Path) -> Summary:
    """Read and check a `summary.json`; raises ArtifactError that names what is wrong in it."""
    try:
        return Summary.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; `nas report RUN` writes it") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        problems = []
        for problem in error.errors()[:5]:
            where = ".".join(str(part) for part in problem["loc"]) or "summary"
            problems.append(f"{path}: {where}: {problem['msg']}")
        hint = f"this nas reads schema version {SCHEMA_VERSION}; `nas report RUN` writes it anew"
        raise ArtifactError("\n".join([*problems, hint])) from None


def summary_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `summary.json` as it is written."""
    schema = Summary.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as the text of the checked-in `summary.schema.json`."""
    return json.dumps(summary_schema(), indent=1, sort_keys=True) + "\n"


def packaged_schema_text() -> str:
    """The `summary.schema.json` that the package carries."""
    return resources.files("nas.report").joinpath("summary.schema.json").read_text("utf-8")
