"""Costs measured elsewhere: a CSV file with one architecture a line."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.errors import ConfigError

_KEY = "architecture"


@dataclass(frozen=True)
class CostColumns:
    """Columns by name; of each, the cost by the architecture's key."""

    path: Path
    columns: dict[str, dict[str, float]]

    def cost(self, column: str, key: str) -> float:
        """Raises ConfigError for an architecture that the file does not have."""
        if key not in self.columns[column]:
            raise ConfigError(f"{self.path}: no {column} of {key}; add the line")
        return self.columns[column][key]


def read_costs(path: Path, wanted: Sequence[str]) -> CostColumns:
    """Those columns of `wanted` that the file has; raises ConfigError naming line and column, and
    for a file that has none of them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--costs {path}: cannot be read: {error}") from error
    reader = csv.DictReader(text.splitlines())
    names = reader.fieldnames or []
    if _KEY not in names:
        raise ConfigError(f"--costs {path}: the first line must name a column {_KEY}")
    columns: dict[str, dict[str, float]] = {name: {} for name in wanted if name in names}
    if not columns:
        limited = ", ".join(wanted) or "nothing"
        raise ConfigError(
            f"--costs {path}: its columns are {', '.join(names)}, and --max limits {limited}; "
            f"limit one of them with --max COLUMN=VALUE, or leave the file out"
        )
    for row in reader:
        for name, column in columns.items():
            column[row[_KEY]] = _cost(row[name], f"{path}: line {reader.line_num}: {name}")
    return CostColumns(path, columns)


def _cost(cell: str | None, where: str) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{where} is {cell!r}; it must be a number from 0 on")
    return value
