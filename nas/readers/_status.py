"""How far a run is, from its records alone."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType

from nas._documents import load_json
from nas._tables import table
from nas._words import duration, size_mib
from nas.compiler import PASSES
from nas.passes.forecast import compare_forecast
from nas.readers._runs import unit_records
from nas.report import ForecastSummary
from nas.run import RunDirectory, UnitRecord

PassState = Literal["done", "under way", "to do"]
RunState = Literal["running", "finished", "unfinished"]

_OF_BASELINES = "solve/uniform"
"""Opens the names of units that belong to solving and are made while building."""


class PassStatus(BaseModel):
    """Units on record; `expected` where it can be told from the list of candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    state: PassState
    units: int
    expected: int | None = None
    seconds: float


class RunStatus(BaseModel):
    """A run at a glance. `missing_files` are files on record that are no longer there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    state: RunState
    passes: tuple[PassStatus, ...]
    disk_mib: float
    missing_files: tuple[str, ...] = ()
    forecast: tuple[ForecastSummary, ...] = ()
    report: Path | None = None


def read_status(run: RunDirectory) -> RunStatus:
    """Units are counted as recorded; their contents are not hashed again."""
    records = list(unit_records(run))
    passes = _passes(records, _expected(run))
    files = [file for record in records for file in record.files]
    report = run.path("report", "report.html")
    return RunStatus(
        path=run.root,
        state=_state(run, passes),
        passes=passes,
        disk_mib=sum(p.stat().st_size for p in run.root.rglob("*") if p.is_file()) / 2**20,
        missing_files=tuple(file for file in files if not run.path(file).is_file()),
        forecast=compare_forecast(run),
        report=report if report.is_file() else None,
    )


def status_tables(status: RunStatus) -> Iterable[RenderableType]:
    yield table(
        f"{status.path}: {status.state}, {size_mib(status.disk_mib)}",
        ("pass", "state", "units", "time", "what it does"),
        [
            (
                step.name,
                step.state,
                f"{step.units} of {step.expected}" if _partial(step) else step.units or "",
                duration(step.seconds) if step.seconds else "",
                step.title,
            )
            for step in status.passes
        ],
        right=("units", "time"),
        whole=("pass", "state"),
    )
    if status.forecast:
        yield _forecast_table(status.forecast)
    if status.missing_files:
        rows = [(file,) for file in status.missing_files]
        yield table("gone or moved; `nas run` makes them again", ("file",), rows)
    if status.report:
        yield f"report: {status.report}"


def _forecast_table(rows: tuple[ForecastSummary, ...]) -> RenderableType:
    columns = ("pass", "forecast", "actual", "error", "disk", "actual", "memory", "peak")
    return table(
        "forecast against actual; disk and memory in MiB",
        columns,
        [
            (
                row.name,
                duration(row.forecast_s),
                "" if row.actual_s is None else duration(row.actual_s),
                "" if row.error_percent is None else f"{row.error_percent:+.0f} %",
                *(
                    f"{size:,.0f}" if size else ""
                    for size in (
                        row.forecast_disk_mib,
                        row.disk_mib,
                        row.forecast_memory_mib,
                        row.peak_memory_mib,
                    )
                ),
            )
            for row in rows
        ],
        right=columns[1:],
    )


def _partial(step: PassStatus) -> bool:
    return step.expected is not None and step.units < step.expected


def _passes(records: list[UnitRecord], expected: dict[str, int]) -> tuple[PassStatus, ...]:
    found: dict[str, list[UnitRecord]] = {}
    for record in records:
        if not record.name.startswith(_OF_BASELINES):
            found.setdefault(record.name.split("/")[0], []).append(record)
    unfinished = {name for name, most in expected.items() if len(found.get(name, ())) < most}
    begun = set(found)
    if _is_pruning(found):
        unfinished.add("prune")
        begun.discard("build")
    furthest = max((i for i, step in enumerate(PASSES) if step.name in begun), default=-1)
    statuses = []
    for i, step in enumerate(PASSES):
        mine, short = found.get(step.name, []), step.name in unfinished
        state: PassState = "to do" if not mine else "under way" if short else "done"
        if i < furthest and not short:
            state = "done"  # one that had nothing to do has no units
        statuses.append(
            PassStatus(
                name=step.name,
                title=step.title,
                state=state,
                units=len(mine),
                expected=expected.get(step.name),
                seconds=sum(record.seconds for record in mine),
            )
        )
    return tuple(statuses)


def _is_pruning(found: Mapping[str, list[UnitRecord]]) -> bool:
    """Whether nothing but blocks, some of which pruning makes to judge the others by, is newer than
    the units of a pruning that has not decided yet."""
    pruned = {record.name for record in found.get("prune", ())}
    return bool(pruned) and "prune/survivors" not in pruned and "score" not in found


def _expected(run: RunDirectory) -> dict[str, int]:
    """Blocks to build and slots to score, from the list of candidates where there is one."""
    pruned, space = run.path("prune.json"), run.path("space.json")
    try:
        if pruned.is_file():
            found = load_json(pruned.read_text(encoding="utf-8"))
            slots = {name.rpartition("/")[0] for name in found["kept"]}
            return {"build": len({*found["kept"], *found["trials"]}), "score": len(slots)}
        candidates = load_json(space.read_text(encoding="utf-8"))["candidates"]
        of_slots = {(c["slot"]["layer"], c["slot"]["kind"]) for c in candidates}
        return {"build": len(candidates), "score": len(of_slots)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # absent or torn: the next run says so


def _state(run: RunDirectory, passes: Iterable[PassStatus]) -> RunState:
    if _locked(run.path("run.lock")):
        return "running"
    return "finished" if all(step.state == "done" for step in passes) else "unfinished"


def _locked(path: Path) -> bool:
    """Whether another process holds the run."""
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
