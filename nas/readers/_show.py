"""What a run found, and what a hardware profile or a search space says."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import yaml
from rich.console import RenderableType

from hardware_profiles import HardwareProfile, load_profile
from nas._tables import calm, table, upright
from nas._words import number
from nas.errors import ConfigError
from nas.meters import Calibration
from nas.report import (
    SlotSummary,
    Summary,
    budget_table,
    load_summary,
    scenario_table,
    summary_table,
)
from nas.run import RunDirectory
from search_spaces import (
    SearchSpace,
    StudentSpace,
    kind_of,
    list_student_spaces,
    load_space,
    load_student_space,
)

Shown = Summary | SlotSummary | HardwareProfile | SearchSpace | StudentSpace


def summary_of(run: RunDirectory) -> Summary:
    """The summary of a run; raises ArtifactError where it is not written yet."""
    return load_summary(run.path("report", "summary.json"))


def shown(what: str, name: str | None, slot: str | None) -> Shown:
    """`what` is a run's folder, `hardware` or `space`; raises ConfigError, ArtifactError."""
    if what not in ("hardware", "space"):
        if name is not None:
            raise ConfigError(
                f"show {what} {name}: a run takes no NAME; did you mean --slot {name}?"
            )
        summary = summary_of(RunDirectory.open(Path(what)))
        return summary if slot is None else _slot(summary, slot)
    if slot is not None:
        raise ConfigError(f"--slot {slot}: only a run has slots")
    if name is None:
        kind = "spaces" if what == "space" else what
        raise ConfigError(f"show {what}: which one? `nas ls {kind}` lists them")
    return load_profile(name) if what == "hardware" else _space(name)


def show_tables(value: Shown) -> Iterable[RenderableType]:
    """The tables of whatever `shown` gave."""
    if isinstance(value, Summary):
        return result_tables(value)
    if isinstance(value, SlotSummary):
        return _slot_tables(value)
    if isinstance(value, HardwareProfile):
        return _profile_tables(value)
    return _space_lines(value)


def _space(name: str) -> SearchSpace | StudentSpace:
    """A space of either kind; the message for an unknown name is that of the nearest one."""
    students = list_student_spaces()
    whole = kind_of(name) == "students" or difflib.get_close_matches(name, students, n=1)
    return load_student_space(name) if whole else load_space(name)


def _slot(summary: Summary, slot_id: str) -> SlotSummary:
    slots = {slot.id: slot for slot in summary.slots}
    if slot_id not in slots:
        close = difflib.get_close_matches(slot_id, slots, n=1)
        first, last = summary.slots[0].id, summary.slots[-1].id
        hint = f"did you mean {close[0]}?" if close else f"they run from {first} to {last}"
        raise ConfigError(f"--slot {slot_id}: the run has no such slot; {hint}")
    return slots[slot_id]


def result_tables(summary: Summary) -> Iterable[RenderableType]:
    """Student against teacher and baselines, budgets, tasks."""
    yield upright(summary_table(summary))
    if summary.target.scenarios:
        yield calm(scenario_table(summary))
    if summary.budgets:
        yield calm(budget_table(summary))
    if summary.tasks:
        columns = ("task", "metric", "examples", "teacher", "student", "retained", "95 % interval")
        rows = [
            (
                task.name,
                task.metric,
                task.examples,
                f"{task.teacher_accuracy:.3f}",
                f"{task.student_accuracy:.3f}",
                _percent(task.retained),
                _interval(task.retained_low, task.retained_high),
            )
            for task in summary.tasks
        ]
        yield table("tasks", columns, rows, right=columns[2:])


def _slot_tables(slot: SlotSummary) -> Iterable[RenderableType]:
    """The options of one slot, the chosen one marked, the least loss first."""
    costs = ("prefill_ms", "decode_ms", "params_m", "memory_mib", "kv_mib")
    known = [c for c in costs if any(getattr(o, c) is not None for o in slot.options)]
    stopped = any(option.stopped for option in slot.options)
    ends = ("training stopped at",) if stopped else ()
    columns = ("", "block", "loss (nats)", "local error", *known, *ends)
    options = sorted(slot.options, key=lambda option: option.loss)
    rows = [
        (
            "*" if option.variant == slot.chosen else "",
            option.variant,
            _number(option.loss),
            _number(option.local_error),
            *(_number(getattr(option, cost)) for cost in known),
            *([option.stopped or ""] if stopped else []),
        )
        for option in options
    ]
    right = columns[2 : len(columns) - len(ends)]
    yield table(f"{slot.id}: the student has {slot.chosen}", columns, rows, right=right)


def _profile_tables(profile: HardwareProfile) -> Iterable[RenderableType]:
    """Every figure of a device with its source."""
    skipped = ("name", "description", "sources")
    rows = [
        (name, _flat(value), profile.sources.get(name, ""))
        for name, value in profile.model_dump(mode="json").items()
        if name not in skipped and (value is not None or name in profile.sources)
    ]
    title = f"{profile.name}: {profile.description}"
    yield table(title, ("field", "value", "source"), rows, whole=("field",))


def calibration_tables(found: Calibration) -> Iterable[RenderableType]:
    """Efficiencies by class, and how far the curve is from what was measured."""
    columns = ("class", "compute %", "bandwidth %", "overhead us")
    rows = [
        (name, f"{100 * e.compute:.3g}", f"{100 * e.bandwidth:.3g}", f"{e.overhead_us:.3g}")
        for name, e in found.curve.classes.items()
    ]
    title = f"{found.hardware}, {found.dtype}: {found.runtime} {found.runtime_version}"
    yield table(f"{title} on {found.device}", columns, rows, right=columns[1:])
    yield f"curve: {found.curve.form.label}"
    yield (
        f"error on {found.points} latencies: median {_percent(found.median_error)}, worst "
        f"{_percent(found.worst_error)}; left out of the fit: median "
        f"{_percent(found.unseen_median_error)}, worst {_percent(found.unseen_worst_error)}"
    )


def _space_lines(space: SearchSpace | StudentSpace) -> Iterable[str]:
    """The space as YAML, which is how one writes another."""
    data = space.model_dump(mode="json", exclude_none=True)
    yield yaml.safe_dump(data, sort_keys=False, default_flow_style=None).rstrip("\n")


def _flat(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _number(value: float | None) -> str | None:
    return None if value is None else number(value)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"
