"""The whole of a run's configuration, and what must fit together in it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from nas.config._budgets import BudgetsConfig, Limits, PhaseLimits
from nas.config._data import DataConfig
from nas.config._library import BuildConfig, ObjectiveConfig, PruneConfig, ScoreConfig
from nas.config._outputs import EvaluateConfig, ExportConfig
from nas.config._section import Section
from nas.config._student import (
    AssembleConfig,
    BaselineName,
    DistillConfig,
    RefineConfig,
    SolveConfig,
)
from nas.config._target import TargetConfig
from nas.config._teacher import TeacherConfig


class RunConfig(Section):
    """Everything a run depends on."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    teacher: TeacherConfig
    data: DataConfig = DataConfig()
    space: str = "decoder"
    target: TargetConfig = TargetConfig()
    budgets: BudgetsConfig
    prune: PruneConfig = PruneConfig()
    build: BuildConfig = BuildConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    score: ScoreConfig = ScoreConfig()
    solve: SolveConfig = SolveConfig()
    refine: RefineConfig = RefineConfig()
    assemble: AssembleConfig = AssembleConfig()
    baselines: tuple[BaselineName, ...] = ("uniform_ffn", "depth_cut")
    distill: DistillConfig = DistillConfig()
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _rungs_have_a_judge(self) -> Self:
        if self.build.rungs > 1 and self.prune.keep == 1:
            raise ValueError(
                "build.rungs: candidates stop by what pruning knows of them; set prune.keep below "
                "1, or leave rungs out"
            )
        return self

    @model_validator(mode="after")
    def _budgets_can_be_measured(self) -> Self:
        groups: dict[str, Limits] = {"budgets": self.budgets}
        groups |= {f"budgets.scenarios.{k}": v for k, v in self.budgets.scenarios.items()}
        given = [value for group in groups.values() for value in vars(group).values()]
        if all(v is None or v == PhaseLimits() or isinstance(v, dict) for v in given):
            raise ValueError("budgets: give at least one, such as budgets.speedup=1.5")
        for name in sorted(self.budgets.scenarios.keys() - self.target.scenarios.keys()):
            known = ", ".join(self.target.scenarios) or "none"
            raise ValueError(
                f"budgets.scenarios.{name}: target.scenarios has no {name} (it has {known}); "
                f"add it there"
            )
        for path, group in groups.items():
            for name, phases in group.needed_phases.items():
                if missing := phases - set(self.target.phases):
                    raise ValueError(
                        f"{path}.{name}: add {' and '.join(sorted(missing))} to target.phases"
                    )
        return self

    @model_validator(mode="after")
    def _batches_need_every_candidate(self) -> Self:
        narrowed = self.prune.keep < 1 or self.score.until_certain
        if self.target.batches and (narrowed or self.score.method == "focused"):
            raise ValueError(
                "target.batches: prune.keep, score.until_certain and score.method: focused leave "
                "out what the budgets at one batch do not need; use them with one target.batch"
            )
        return self

    @model_validator(mode="after")
    def _the_meter_takes_what_is_given(self) -> Self:
        if self.target.calibration and self.target.meter != "roofline":
            raise ValueError(
                f"target.calibration: the meter roofline reads it, target.meter is "
                f"{self.target.meter}; set one or leave the other out"
            )
        if self.target.provider != "cpu" and self.target.meter != "onnxruntime":
            raise ValueError(
                f"target.provider: the meter onnxruntime uses it, target.meter is "
                f"{self.target.meter}; set one or leave the other out"
            )
        if self.target.meter == "onnxruntime" and self.target.dtype != "float32":
            raise ValueError(
                f"target.dtype: ONNX Runtime gets float32 networks, so {self.target.dtype} is not "
                f"measured with it; use float32, or the meter roofline or table"
            )
        return self
