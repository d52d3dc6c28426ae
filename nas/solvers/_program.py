"""The numbers that a MIP package receives, scaled so that its absolute tolerances are relative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.solvers._table import Floats, Ints, Table


@dataclass(frozen=True)
class Row:
    """The non-zero `weights` of a row, and the `columns` that they belong to."""

    columns: Ints
    weights: Floats


@dataclass(frozen=True)
class Program:
    """Minimise `loss @ x + offset` in units of `unit`: one x a group, `rows @ x <= caps`.

    `loss`, `group` [columns], `caps` [rows]. True loss is `unit * (loss @ x) + offset`; row k was
    divided by `row_units[k]`. With `slack` [rows] a cap may be exceeded, at this loss a unit.
    """

    loss: Floats
    group: Ints
    rows: tuple[Row, ...]
    caps: Floats
    unit: float
    offset: float
    row_units: Floats
    slack: Floats | None = None

    @property
    def groups(self) -> int:
        return int(self.group[-1]) + 1


def build_program(table: Table, columns: Ints, extra: tuple[Ints, ...] = ()) -> Program:
    """The table restricted to `columns` (ascending, at least one a slot), scaled.

    `extra` holds picks that are ruled out one by one. Losses count from the least of their slot in
    units of the median difference, rows in units of their largest entry.
    """
    group = table.slot[columns]
    loss = table.loss[columns]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    least = np.minimum.reduceat(loss, starts)
    above = loss - least[group]
    positive = above[above > 0]
    unit = float(np.median(positive)) if positive.size else 1.0
    rows, caps = table.rows[:, columns], table.caps
    for pick in extra:
        rows = np.vstack([rows, np.isin(columns, pick).astype(np.float64)])
        caps = np.append(caps, len(pick) - 0.5)
    row_units = rows.max(axis=1, initial=0.0)
    row_units[row_units <= 0] = 1.0
    return Program(
        loss=above / unit,
        group=group,
        rows=tuple(map(_sparse, rows / row_units[:, None])),
        caps=caps / row_units,
        unit=unit,
        offset=float(least.sum()),
        row_units=row_units,
    )


def _sparse(weights: Floats) -> Row:
    held = np.flatnonzero(weights).astype(np.int64)
    return Row(held, weights[held])
