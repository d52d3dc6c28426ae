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
    made = calm(Table(title=Text(title), title_justify="left"))
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column in right or column in whole,
        )
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def calm(table: Table) -> Table:
    """`table` without a frame."""
    table.box = None
    table.padding = (0, 2, 0, 0)
    table.title_style, table.header_style = "bold", "dim"
    return table


def upright(wide: Table) -> Table:
    """`wide` with rows and columns exchanged, so that few rows of many figures fit 80 columns."""
    names, *figures = wide.columns
    tall = calm(Table(title=wide.title, title_justify="left"))
    tall.add_column(names.header)
    for name in names.cells:
        tall.add_column(name, justify="right", no_wrap=True)
    for figure in figures:
        tall.add_row(figure.header, *figure.cells)
    return tall


def _cell(value: object) -> Text:
    text = "-" if value is None else str(value)
    return Text(text, style=STATES.get(text, ""))
