"""Where the student will run, and under which conditions it is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from nas.config._section import Section

ScenarioName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class ScenarioConfig(Section):
    """Another batch and other lengths on the same target. What is left out is as in `target`;
    `table`: the file of these conditions, for the meter `table`."""

    batch: PositiveInt | None = None
    prompt_tokens: PositiveInt | None = None
    output_tokens: PositiveInt | None = None
    table: Path | None = None


class TargetConfig(Section):
    """Where the student will run and under which conditions it is measured.

    `provider`: the execution provider of ONNX Runtime that the meter `onnxruntime` uses here.
    `table`: the file that the meter `table` reads. `calibration`: efficiencies for the meter
    `roofline`, as `nas measure RUN --calibrate` writes them. `scenarios`: further conditions by
    name, each measured as well, which `budgets.scenarios` may limit. `batches`: other batch sizes
    that the search may choose in the place of `batch`; each is measured as the scenario `batch-N`,
    and the target's own budgets hold at the one that is chosen."""

    hardware: str = "local"
    meter: Literal["onnxruntime", "torch", "roofline", "table"] = "onnxruntime"
    provider: Literal["cpu", "cuda", "tensorrt", "tensorrt_rtx"] = "cpu"
    table: Path | None = None
    calibration: Path | None = None
    batch: PositiveInt = 1
    batches: tuple[PositiveInt, ...] = ()
    prompt_tokens: PositiveInt = 512
    output_tokens: PositiveInt = 128
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    threads: PositiveInt | None = None
    repeats: PositiveInt = 9
    phases: tuple[Literal["prefill", "decode"], ...] = ("prefill", "decode")
    scenarios: dict[ScenarioName, ScenarioConfig] = Field(default={})

    def in_scenario(self, name: str) -> TargetConfig:
        """The same target under the conditions of a scenario, as if there were no other."""
        given = {k: v for k, v in vars(self.scenarios[name]).items() if v is not None}
        return self.model_copy(update={**given, "scenarios": {}, "batches": ()})

    @model_validator(mode="before")
    @classmethod
    def _batches_are_scenarios(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("batches"), (list, tuple)):
            return data
        own, given = data.get("batch", 1), data.get("scenarios") or {}
        others = {f"batch-{b}": {"batch": b} for b in data["batches"] if b != own}
        return {**data, "scenarios": {**others, **given}} if isinstance(given, dict) else data

    @property
    def every_batch(self) -> tuple[int, ...]:
        """All batch sizes that may be chosen, the target's own first."""
        return tuple(dict.fromkeys((self.batch, *self.batches)))

    def at_batch(self, batch: int) -> TargetConfig:
        """The target under its own conditions, with one of `every_batch`."""
        return self if batch == self.batch else self.in_scenario(f"batch-{batch}")
