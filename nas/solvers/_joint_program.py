"""The program of several choices at once: K copies of a problem that differ from each other.

For copies k < l and slot s, `differ[k, l, s]` may be 1 only where no option is taken by both:
`x[k, o] + x[l, o] + differ[k, l, s] <= 2`. Copies come in the order of their losses, since any
exchange of two is the same answer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from nas.solvers._program import Program, Row
from nas.solvers._table import Floats, Ints, Table

_Limited = tuple[Row, float]
"""A row and its cap."""


def joint_program(table: Table, core: Ints, count: int, differ: int, ceiling: float) -> Program:
    """`count` copies of the table's options `core`, pairwise different, of a sum up to `ceiling`.

    The options of copy k stand from `k * len(core)` on; a group for each pair of copies and each
    slot follows, whose columns mean "same" and "different".
    """
    size, slots = len(core), len(table.slots)
    pairs = list(itertools.combinations(range(count), 2))
    starts = np.flatnonzero(np.diff(table.slot[core], prepend=-1))
    loss = table.loss[core]
    least = np.minimum.reduceat(loss, starts)
    above = loss - least[table.slot[core]]
    positive = above[above > 0]
    unit = float(np.median(positive)) if positive.size else 1.0
    offset = count * float(least.sum())
    rows = [
        *_budgets(table, core, count),
        *_overlaps(table.slot[core], pairs, count * size, slots),
        *_crowds(table.slot[core], count, slots),
        *_differences(pairs, count * size, slots, differ),
        *_orders(above / unit, count),
    ]
    if math.isfinite(ceiling):
        everything = np.arange(count * size, dtype=np.int64)
        rows.append((Row(everything, np.tile(above / unit, count)), (ceiling - offset) / unit))
    copies = [table.slot[core] + k * slots for k in range(count)]
    labels = np.repeat(np.arange(len(pairs) * slots, dtype=np.int64), 2) + count * slots
    return Program(
        loss=np.concatenate([np.tile(above / unit, count), np.zeros(len(labels))]),
        group=np.concatenate([*copies, labels]).astype(np.int64),
        rows=tuple(row for row, _ in rows),
        caps=np.array([cap for _, cap in rows]),
        unit=unit,
        offset=offset,
        row_units=np.ones(len(rows)),
    )


def _budgets(table: Table, core: Ints, count: int) -> Iterator[_Limited]:
    for weights, cap in zip(table.rows[:, core], table.caps, strict=True):
        held = np.flatnonzero(weights).astype(np.int64)
        scale = float(weights.max(initial=0.0)) or 1.0
        for k in range(count):
            yield Row(held + k * len(core), weights[held] / scale), float(cap) / scale


def _overlaps(
    slot: Ints, pairs: Sequence[tuple[int, int]], first: int, slots: int
) -> Iterator[_Limited]:
    """No option twice where two copies count as different."""
    size = len(slot)
    for p, (k, m) in enumerate(pairs):
        different = first + 2 * (p * slots + slot) + 1
        for i in range(size):
            yield Row(np.array([k * size + i, m * size + i, different[i]]), np.ones(3)), 2.0


def _crowds(slot: Ints, count: int, slots: int) -> Iterator[_Limited]:
    """Cuts: an option that n copies take makes n (n - 1) / 2 pairs the same, which is never less
    than `t n - t (t + 1) / 2`. Unlike the pairs one by one they bind when copies share options
    half and half."""
    size, pairs = len(slot), count * (count - 1) // 2
    for i in range(size):
        same = count * size + 2 * (np.arange(pairs, dtype=np.int64) * slots + slot[i])
        columns = np.concatenate([np.arange(count, dtype=np.int64) * size + i, same])
        for t in range(1, count):
            weights = np.concatenate([np.full(count, float(t)), np.full(pairs, -1.0)])
            yield Row(columns, weights), t * (t + 1) / 2


def _differences(
    pairs: Sequence[tuple[int, int]], first: int, slots: int, differ: int
) -> Iterator[_Limited]:
    """At most `slots - differ` slots of two copies count as the same."""
    for p in range(len(pairs)):
        same = first + 2 * (p * slots + np.arange(slots, dtype=np.int64))
        yield Row(same, np.ones(slots)), float(slots - differ)


def _orders(above: Floats, count: int) -> Iterator[_Limited]:
    """No copy loses more than the next."""
    size = len(above)
    both = np.concatenate([above, -above])
    for k in range(count - 1):
        yield Row(np.arange(k * size, (k + 2) * size, dtype=np.int64), both), 0.0
