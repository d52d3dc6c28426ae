"""A block library as it was read: named columns of every variant of every slot."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nas.errors import ArtifactError, ConfigError
from nas.ir.problem import Budget

Row = Mapping[str, object]


@dataclass(frozen=True)
class BlockLibrary:
    """`rows[slot][variant][column]` as the file has them, in its order; columns are dotted paths.

    Values are checked when a column is asked for: the file may hold text beside numbers. `budgets`,
    `objective` and `scores` (losses of single sequences by `slot/variant`) are set where the file
    states them. `notes` is what a reader of any answer should know of the file.
    """

    path: Path
    rows: Mapping[str, Mapping[str, Row]]
    budgets: tuple[Budget, ...] = ()
    objective: str | None = None
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every column that some variant has."""
        found: dict[str, None] = {}
        for variants in self.rows.values():
            for row in variants.values():
                found.update(dict.fromkeys(row))
        return tuple(found)

    def column(self, path: str, option: str) -> str:
        """The column that `path` means: its full name, or an end of it that is unique.

        `metrics.kl_div` also finds a column `kl_div`. Raises ConfigError naming `option`, the part
        of the request that holds the path.
        """
        if path in self.columns:
            return path
        ends = [c for c in self.columns if c.endswith(f".{path}") or path.endswith(f".{c}")]
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise ConfigError(
                f"{option} {path}: {self.path} has {', '.join(ends)}; write the whole path of one"
            )
        close = difflib.get_close_matches(path, self.columns, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"it has {_some(self.columns)}"
        raise ConfigError(f"{option} {path}: {self.path} has no such column; {hint}")

    def number(self, slot: str, variant: str, column: str) -> float:
        """One value; raises ArtifactError unless it is there and a finite number."""
        row = self.rows[slot][variant]
        if column not in row:
            raise ArtifactError(
                f"{self.path}: slot {slot}, variant {variant}: {column} is missing, which others "
                "have; complete the file or leave the variant out"
            )
        value = row[column]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ArtifactError(
                f"{self.path}: slot {slot}, variant {variant}: {column} is {_brief(value)}; "
                "a number is needed"
            )
        if not finite(value):
            raise ArtifactError(
                f"{self.path}: slot {slot}, variant {variant}: {column} is {_brief(value)}; "
                "measure it again or leave the variant out"
            )
        return float(value)


def finite(value: float) -> bool:
    """Whether `value` is a finite double."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of doubles
        return False


def _brief(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _some(names: tuple[str, ...], most: int = 12) -> str:
    shown = ", ".join(names[:most]) or "no columns"
    return f"{shown}, ..." if len(names) > most else shown
