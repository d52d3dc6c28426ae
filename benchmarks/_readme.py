"""The tables of the README beside this file, each between markers that name its benchmark."""

from __future__ import annotations

from pathlib import Path

_README = Path(__file__).parent / "README.md"


def install(name: str, table: str) -> None:
    """Put the table of the benchmark `name` in its place."""
    begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    text = _README.read_text(encoding="utf-8")
    head, rest = text.split(begin)
    _README.write_text(f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def cell(value: float | None, form: str) -> str:
    """A number in the form that it has in a table; nothing where there is none."""
    return "" if value is None else form.format(value)
