"""The one look that the tables of readers and doctor share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

STATES = {
    "ok": "green",
    "done": "green",
    "finished": "green",
    "under way": "cyan",
    "running": "cyan",
    "to do": "dim",
    "note": "yellow",
    "absent": "dim",
    "error": "bold red",
    "missing": "bold red",
}


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> Table:
    """A table without a frame; columns of `right` are numbers, those of `whole` never wrap."""
    made = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column in right or column in whole,
        )
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def _cell(value: object) -> Text:
    text = "-" if value is None else str(value)
    return Text(text, style=STATES.get(text, ""))
