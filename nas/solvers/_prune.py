"""Options that cannot be needed: another of the same slot is no worse in anything."""

from __future__ import annotations

import numpy as np

from nas.solvers._table import Floats, Ints, Table


def undominated(table: Table) -> Ints:
    """Indices of the options left after dominance, ascending.

    An option goes when another of its slot has no more loss and no more weight in any row
    (differences are rows too); of equal options the first stays. At least one optimum remains.
    """
    points = np.vstack([table.loss[None, :], table.rows])
    ends = np.append(table.start[1:], table.options)
    kept = [
        begin + np.flatnonzero(_front(points[:, begin:end]))
        for begin, end in zip(table.start, ends, strict=True)
    ]
    return np.concatenate(kept).astype(np.int64)


def _front(points: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask of the columns of `points` [values, options] that no other column dominates."""
    count = points.shape[1]
    no_worse = np.ones((count, count), dtype=np.bool_)
    better = np.zeros((count, count), dtype=np.bool_)
    for row in points:
        no_worse &= row[:, None] <= row[None, :]
        better |= row[:, None] < row[None, :]
    earlier = np.arange(count)[:, None] < np.arange(count)[None, :]
    return np.asarray(~(no_worse & (better | earlier)).any(axis=0))
