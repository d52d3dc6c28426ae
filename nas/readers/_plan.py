"""The forecast of a run as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import RenderableType

from nas._tables import table
from nas._words import duration, size_mib

if TYPE_CHECKING:
    from nas.compiler import Plan


_SIZES = "by size of the executor, a device for each worker"


def plan_tables(plan: Plan) -> Iterable[RenderableType]:
    """Units, disk, memory, transfers and time by pass, their totals, time by the size of the
    executor, and what there is to say about them."""
    rows: list[tuple[object, ...]] = [
        (
            row.pass_name,
            row.units,
            size_mib(row.disk_mib) if row.disk_mib else "",
            size_mib(row.memory_mib),
            size_mib(row.transfer_mib) if row.transfer_mib else "",
            duration(row.seconds),
        )
        for row in plan.rows
    ]
    rows.append(
        (
            "in all",
            sum(row.units for row in plan.rows),
            size_mib(sum(row.disk_mib for row in plan.rows)),
            size_mib(max((row.memory_mib for row in plan.rows), default=0.0)),
            size_mib(sum(row.transfer_mib for row in plan.rows)),
            duration(sum(row.seconds for row in plan.rows)),
        )
    )
    columns = ("pass", "units", "disk", "memory", "to workers", "time")
    yield table("forecast", columns, rows, right=columns[1:])
    sizes = [
        (
            size.device,
            size.workers,
            duration(size.build_s),
            duration(size.score_s),
            duration(size.whole_s),
            f"{size.device_hours:.3g}",
        )
        for size in plan.sizes
    ]
    columns = ("device", "workers", "build", "score", "in all", "device hours")
    yield table(_SIZES, columns, sizes, right=columns[1:])
    yield from (f"note: {note}" for note in plan.notes)
