"""The forecast of a run as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import RenderableType

from nas._tables import table
from nas._words import duration, size_mib

if TYPE_CHECKING:
    from nas.compiler import Plan


def plan_tables(plan: Plan) -> Iterable[RenderableType]:
    """Units, disk, memory and time by pass, their totals, and what there is to say about them."""
    rows: list[tuple[object, ...]] = [
        (
            row.pass_name,
            row.units,
            size_mib(row.disk_mib) if row.disk_mib else "",
            size_mib(row.memory_mib),
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
            duration(sum(row.seconds for row in plan.rows)),
        )
    )
    columns = ("pass", "units", "disk", "memory", "time")
    yield table("forecast", columns, rows, right=columns[1:])
    yield from (f"note: {note}" for note in plan.notes)
