"""Check a configuration without doing any work: no weights, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType

from nas._tables import table
from nas.config import (
    DatasetText,
    FileText,
    ImageFile,
    JsonlText,
    RunConfig,
    TextSource,
    load_config,
)
from nas.errors import ConfigError, NasError
from nas.ir import TransformerShape, VisionShape


class Finding(BaseModel):
    """One thing that was looked at; `exit_code` is 0 unless `state` is `error`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    state: Literal["ok", "note", "error"]
    detail: str
    exit_code: int = 0


class Verdict(BaseModel):
    """All findings on one configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """That of the first error, 0 where there is none."""
        return next((f.exit_code for f in self.findings if f.state == "error"), 0)


Check = Callable[[RunConfig], tuple[Literal["ok", "note"], str]]


def check_config(path: Path, overrides: Sequence[str] = ()) -> Verdict:
    """Configuration, space, target, solver, budgets, text files and the teacher's shape."""
    try:
        config = load_config(path, overrides)
    except NasError as error:
        found = Finding(what="file", state="error", detail=str(error), exit_code=error.exit_code)
        return Verdict(path=path, findings=(found,))
    first = Finding(what="file", state="ok", detail=f"run {config.name}")
    rest = (_finding(what, check, config) for what, check in _CHECKS.items())
    return Verdict(path=path, findings=(first, *rest))


def verdict_tables(verdicts: Sequence[Verdict]) -> Iterable[RenderableType]:
    for verdict in verdicts:
        rows = [(f.what, f.state, f.detail) for f in verdict.findings]
        yield table(str(verdict.path), ("what", "state", "detail"), rows, whole=("what", "state"))


def _finding(what: str, check: Check, config: RunConfig) -> Finding:
    try:
        state, detail = check(config)
    except NasError as error:
        return Finding(what=what, state="error", detail=str(error), exit_code=error.exit_code)
    return Finding(what=what, state=state, detail=detail)


def _space(config: RunConfig) -> tuple[Literal["ok", "note"], str]:
    from search_spaces import load_space

    load_space(config.space)
    return "ok", config.space


def _target(config: RunConfig) -> tuple[Literal["ok", "note"], str]:
    from hardware_profiles import load_profile

    target, profile = config.target, load_profile(config.target.hardware)
    if target.meter in ("onnxruntime", "torch"):
        from nas.meters import require_at_hand

        require_at_hand(target, profile)
    if target.meter == "table" and (target.table is None or not target.table.is_file()):
        raise ConfigError(
            f"target.table: {target.table or 'not given'}; target.meter: table reads this file"
        )
    if target.calibration is not None:
        from nas.meters import load_calibration

        load_calibration(target.calibration).require_target(target, profile)
    for name in target.scenarios:
        here = target.in_scenario(name)
        if target.meter == "table" and (here.table is None or not here.table.is_file()):
            raise ConfigError(
                f"target.scenarios.{name}.table: {here.table or 'not given'}; "
                f"target.meter: table reads this file"
            )
    scenarios = f"; scenarios {', '.join(target.scenarios)}" if target.scenarios else ""
    return "ok", f"{profile.description}; meter {target.meter}{scenarios}"


def _solver(config: RunConfig) -> tuple[Literal["ok", "note"], str]:
    from nas.solvers import create_solver

    create_solver(config.solve.solver)
    return "ok", config.solve.solver


def _budgets(config: RunConfig) -> tuple[Literal["ok", "note"], str]:
    given = config.budgets.model_dump(mode="json", exclude_none=True)
    for scenario, limits in given.pop("scenarios").items():
        given |= {f"{scenario} {name}": value for name, value in limits.items()}
    return "ok", ", ".join(f"{name} {value}" for name, value in given.items())


def _text(config: RunConfig) -> tuple[Literal["ok", "note"], str]:
    for source in config.data.sources:
        _require_text(source)
    for task in config.evaluate.tasks:
        if not task.is_file():
            raise ConfigError(f"evaluate.tasks: {task}: no such file; check the path")
    kinds = ", ".join(source.kind for source in config.data.sources)
    if any(isinstance(source, DatasetText) for source in config.data.sources):
        return "note", f"{kinds}; a dataset is looked up when the run starts"
    return "ok", kinds


def _require_text(source: TextSource) -> None:
    if not isinstance(source, (FileText, JsonlText, ImageFile)):
        return
    if not source.path.exists():
        raise ConfigError(f"data.sources: {source.path}: no such file or folder; check the path")
    if source.path.is_file() and not source.path.stat().st_size:
        raise ConfigError(f"data.sources: {source.path}: is empty; give a file with text")


def _teacher(config: RunConfig) -> tuple[Literal["ok", "note"], str]:
    from nas.teachers import local_path, read_shape

    source = config.teacher.source
    if _absent_package(source):
        hint = "`nas doctor --config` says how to add it"
        return "note", f"{source}: the package is not installed here; {hint}"
    if local_path(source) is None:
        return "note", f"{source}: taken as a hub id; it is looked up when the run starts"
    shape = read_shape(config.teacher)
    if not isinstance(shape, TransformerShape):
        return "ok", f"{shape.family}, {shape.layers} blocks that keep the size of their state"
    over = ""
    if isinstance(shape, VisionShape):
        over = f"pictures of {shape.image_side} x {shape.image_side}, "
    return "ok", (
        f"{shape.family}, {over}{shape.layers} layers, hidden size {shape.hidden_size}, "
        f"{shape.kv_heads} KV heads, FFN width {shape.ffn_width}"
    )


def _absent_package(source: str) -> bool:
    import importlib.util

    name, separator, _ = source.removeprefix("package:").partition("/")
    if not source.startswith("package:") or not separator or not name.isidentifier():
        return False
    return importlib.util.find_spec(name) is None


_CHECKS: dict[str, Check] = {
    "teacher": _teacher,
    "text": _text,
    "space": _space,
    "target": _target,
    "budgets": _budgets,
    "solver": _solver,
}
