"""Tables of numbers: comma-separated values with a header."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from nas.errors import ArtifactError


@dataclass(frozen=True)
class Row:
    """Cells of a line by column; `where` names file and line."""

    where: str
    cells: dict[str, str]

    def number(self, column: str) -> float:
        """Raises ArtifactError where the cell is no number."""
        try:
            return float(self.cells[column])
        except ValueError:
            raise ArtifactError(
                f"{self.where}: {column}: {self.cells[column][:40]!r} is no number"
            ) from None


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """The columns of a file, and its lines. Raises ArtifactError for a file that is missing, torn
    or not in UTF-8, naming the line."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    header: list[str] = []
    rows: list[Row] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(cells, path)
                continue
            where = f"{path}: line {reader.line_num}"
            if len(cells) != len(header):
                raise ArtifactError(
                    f"{where}: {len(cells)} cells, {len(header)} columns; the line is torn: write "
                    f"it again"
                )
            rows.append(Row(where, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise ArtifactError(
            f"{path}: line {reader.line_num}: {error}; the file is torn or no CSV: write it again"
        ) from error
    return header, rows


def _header(cells: list[str], path: Path) -> list[str]:
    twice = next((name for i, name in enumerate(cells) if name in cells[:i]), None)
    if twice is not None:
        raise ArtifactError(f"{path}: column {twice or '(no name)'} stands there twice")
    return cells


def _text(path: Path) -> str:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ArtifactError(f"{path}: line {line}: not UTF-8; save the table as UTF-8") from error
