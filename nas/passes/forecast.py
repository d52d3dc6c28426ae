"""The forecast that a run keeps, and how it came out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from nas._documents import load_json
from nas.config import RunConfig
from nas.passes.plan import PlanRow, make_plan
from nas.report import ForecastSummary, PassSummary
from nas.run import RunDirectory, UnitRecord, write_atomically

_PLAN = "plan.json"
_MIB = 2**20


def keep_plan(run: RunDirectory, config: RunConfig) -> None:
    """Write the forecast of the whole run to `plan.json`, before its first pass.

    A run goes on without one where none can be made (teachers of pictures have none); the event
    `no_plan` says why.
    """
    path = run.path(_PLAN)
    try:
        text = make_plan(config, run.root).model_dump_json(indent=1)
    except Exception as error:  # whatever it is: a pass that trips over it says so better
        path.unlink(missing_ok=True)  # that of other settings
        run.event("no_plan", error=str(error))
        return
    write_atomically(path, text + "\n")


def stored_plan(run: RunDirectory) -> tuple[PlanRow, ...]:
    """The rows of `plan.json`; none where it is absent or torn."""
    try:
        rows = load_json(run.path(_PLAN).read_text(encoding="utf-8"))["rows"]
        return tuple(PlanRow.model_validate(row) for row in rows)
    except (OSError, ValueError, LookupError, TypeError):
        return ()


def compare_forecast(run: RunDirectory) -> tuple[ForecastSummary, ...]:
    """Forecast beside actual of every pass that was forecast to have work, or had some."""
    rows = stored_plan(run)
    if not rows:
        return ()
    took, records = list(pass_events(run)), _records(run)
    found = (_compared(run, row, took, records.get(row.pass_name, [])) for row in rows)
    return tuple(f for f in found if f.forecast_s or f.actual_s is not None)


def pass_events(run: RunDirectory) -> Iterator[PassSummary]:
    """What passes with work to do took, oldest first, from the event log."""
    for event in run.events():
        if event["event"] == "pass":
            with contextlib.suppress(ValidationError):  # a line that the disk has garbled
                yield PassSummary(
                    name=event.get("name"),
                    seconds=event.get("seconds"),
                    units_done=event.get("units"),
                    units_reused=event.get("reused", 0),
                    peak_memory_mib=event.get("peak_memory_mib"),
                    data_seconds=event.get("data_seconds", 0),
                )


def _compared(
    run: RunDirectory, row: PlanRow, took: Sequence[PassSummary], records: Sequence[UnitRecord]
) -> ForecastSummary:
    """Only the last time that a pass did all of its work counts: what is left after a kill, or a
    task more to evaluate, is less than was forecast."""
    all_of_it = min(row.units, len(records))
    whole = [p for p in took if p.name == row.pass_name and p.units_done >= all_of_it]
    if row.pass_name == "data":
        whole = _reading(records)
    seconds = whole[-1].seconds - whole[-1].data_seconds if whole else None
    return ForecastSummary.of(
        name=row.pass_name,
        forecast_s=row.seconds,
        actual_s=None if seconds is None else max(0.0, seconds),
        forecast_disk_mib=row.disk_mib,
        disk_mib=_disk_mib(run, records) if whole else None,
        forecast_memory_mib=row.memory_mib,
        peak_memory_mib=whole[-1].peak_memory_mib if whole else None,
    )


def _reading(records: Sequence[UnitRecord]) -> list[PassSummary]:
    """Text is no pass of its own: whoever first asks for it waits. Older records have no time."""
    return [PassSummary(name="data", seconds=r.seconds, units_done=1) for r in records if r.seconds]


def _records(run: RunDirectory) -> dict[str, list[UnitRecord]]:
    """Units on record by the pass that they belong to."""
    folder, found = run.path("units"), dict[str, list[UnitRecord]]()
    for path in sorted(folder.rglob("*.json")):
        name = str(path.relative_to(folder).with_suffix(""))
        record = run.record(name)
        if record is not None:
            found.setdefault(name.split("/")[0], []).append(record)
    return found


def _disk_mib(run: RunDirectory, records: Sequence[UnitRecord]) -> float:
    total = 0
    for file in {file for record in records for file in record.files}:
        with contextlib.suppress(OSError):  # gone, which the next run says
            total += run.path(file).stat().st_size
    return total / _MIB
