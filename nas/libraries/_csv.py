"""A library as comma-separated values: `slot` or `layer`, `variant`, then one column a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from nas.errors import ArtifactError
from nas.libraries._library import BlockLibrary, Row

_SLOT = ("layer", "slot")
_VARIANT = "variant"
_MARKS = {";": "semicolons", "\t": "tabs"}


def from_csv(text: str, path: Path) -> BlockLibrary:
    """One variant a line; with both columns the slot is `layer.slot`. An empty cell is missing."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    rows: dict[str, dict[str, Row]] = {}
    last = ""
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells, path)
            else:
                last = _add(rows, header, cells, f"{path}: line {reader.line_num}")
    except csv.Error as error:
        after = f" (after {last})" if last else ""
        raise ArtifactError(
            f"{path}: line {reader.line_num}{after}: {error}; the file is torn or no CSV: "
            "write it again"
        ) from error
    if not rows:
        raise ArtifactError(f"{path}: the library is empty; give at least one slot")
    return BlockLibrary(path=path, rows=rows, notes=_unended(text, last, path))


def _unended(text: str, last: str, path: Path) -> tuple[str, ...]:
    """Half a number is a number: a file torn inside its last one is whole but for its end."""
    if text.rstrip(" \t").endswith(("\n", "\r")):
        return ()
    return (
        f"{path}: the last line ({last}) is not ended; if the file is torn, its last value is too",
    )


def _header(cells: Sequence[str], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ArtifactError(f"{path}: column {twice or '(no name)'} stands there twice")
    if _VARIANT not in names or not set(_SLOT) & set(names):
        for mark, what in _MARKS.items():
            if _VARIANT in map(str.strip, ",".join(cells).split(mark)):
                raise ArtifactError(f"{path}: separated by {what}; separate the cells by commas")
        found = ", ".join(names[:8])
        raise ArtifactError(
            f"{path}: the first line has {found[:200]}; it must name the columns: slot (or layer), "
            "variant and the figures"
        )
    return names


def _add(
    rows: dict[str, dict[str, Row]], header: Sequence[str], cells: Sequence[str], line: str
) -> str:
    """Add a variant; returns its place, such as `slot 7, variant gqa_4`."""
    given = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    slot = ".".join(given[name] for name in _SLOT if given.get(name))
    variant = given.get(_VARIANT, "")
    place = f"slot {slot or '?'}, variant {variant or '?'}"
    where = f"{line} ({place})"
    if len(cells) != len(header):
        raise ArtifactError(
            f"{where}: {len(cells)} cells, {len(header)} columns; the line is torn: write it again"
        )
    if not all(given[name] for name in (*_SLOT, _VARIANT) if name in given):
        raise ArtifactError(f"{where}: slot or variant is empty; name both")
    variants = rows.setdefault(slot, {})
    if variant in variants:
        raise ArtifactError(f"{where}: the variant stands there twice; keep one of them")
    variants[variant] = {
        name: _value(cell)
        for name, cell in given.items()
        if cell and name != _VARIANT and name not in _SLOT
    }
    return place


def _value(cell: str) -> object:
    """A number where the cell is one; text stays, and fails only if it is asked for."""
    try:
        return cell if "_" in cell else float(cell)
    except ValueError:
        return cell
