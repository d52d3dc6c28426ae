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
        width = 4 if any(check.command for check in mine) else 3
        columns = ("name", "state", "detail", "add it with")[:width]
        rows = [(c.name, c.state, c.detail, c.command or "")[:width] for c in mine]
        yield table(title, columns, rows, whole=("name", "state", "add it with"))
