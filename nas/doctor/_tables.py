"""The examination as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType

from nas._tables import table
from nas.doctor._checks import Check

_TITLES = {
    "machine": "machine",
    "packages": "packages",
    "optional": "optional packages",
    "configuration": "what the configuration needs",
}


def doctor_tables(checks: Sequence[Check]) -> Iterable[RenderableType]:
    """One table a group."""
    for group, title in _TITLES.items():
        mine = [check for check in checks if check.group == group]
        if not mine:
            continue
        rows = [(c.name, c.state, c.detail, c.command or "") for c in mine]
        columns = ("name", "state", "detail", "add it with")
        if not any(check.command for check in mine):
            columns, rows = columns[:3], [row[:3] for row in rows]
        yield table(title, columns, rows, whole=("name", "state"))
