"""Greedy baselines: marginal ratio, and the equal split of the Puzzle paper."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nas.solvers._answer import Clock
from nas.solvers._heuristic import Heuristic
from nas.solvers._table import Floats, Ints, Table


class GreedySolver(Heuristic):
    """Marginal-ratio greedy.

    Starts from the least-loss option of each slot and, while a budget is broken, takes the swap
    with the least added loss per unit of overspending removed (each budget in shares of its own
    cap, nothing counted beyond what is overspent). Then takes the swaps that lower the loss and
    still fit, best first.
    """

    name: ClassVar[str] = "greedy"

    def _search(self, table: Table, clock: Clock) -> Ints | None:
        return marginal_greedy(table)


class EqualSplitSolver(Heuristic):
    """The greedy baseline of Puzzle (arXiv 2411.19146): every budget split equally over the slots.

    Slots are met in order; each takes its least-loss option within an equal share of what is left
    of every budget, or the one that oversteps its shares least.
    """

    name: ClassVar[str] = "equal_split"

    def _search(self, table: Table, clock: Clock) -> Ints | None:
        raw = table.rows + table.base[:, table.slot]
        left = table.caps + table.base.sum(axis=1)
        unit = _units(table)
        ends = np.append(table.start[1:], table.options)
        pick = np.zeros(len(table.slots), dtype=np.int64)
        for i, (begin, end) in enumerate(zip(table.start, ends, strict=True)):
            share = left / (len(table.slots) - i)
            over = np.maximum(0.0, raw[:, begin:end] - share[:, None]) / unit[:, None]
            order = np.lexsort((table.loss[begin:end], over.sum(axis=0)))
            pick[i] = begin + order[0]
            left = left - raw[:, pick[i]]
        return pick


def marginal_greedy(table: Table, begin: Ints | None = None) -> Ints | None:
    """A feasible pick [slots] by marginal ratios from `begin` on; None when it gets stuck."""
    pick = (table.slot_argmin(table.loss) if begin is None else begin).copy()
    unit = _units(table)
    while not table.feasible(pick):
        over = _overspent(table, table.rows[:, pick].sum(axis=1), unit)
        removed = over - _after_swaps(table, pick, unit)
        added = table.loss - table.loss[pick][table.slot]
        useful = removed > 1e-9 * over
        if not useful.any():
            return None
        # A swap that costs no loss comes first, the one that removes most.
        ratio = np.where(added > 0, added / np.where(useful, removed, 1.0), -removed)
        best = int(np.argmin(np.where(useful, ratio, np.inf)))
        pick[table.slot[best]] = best
    return descend(table, pick)


def descend(table: Table, pick: Ints) -> Ints:
    """Take single swaps that lower the loss and stay feasible, largest first, until none does."""
    pick = pick.copy()
    while True:
        used = table.rows[:, pick].sum(axis=1)
        after = used[:, None] + table.rows - table.rows[:, pick][:, table.slot]
        added = table.loss - table.loss[pick][table.slot]
        fits = (after <= table.caps[:, None]).all(axis=0) & (added < 0)
        if not fits.any():
            return pick
        best = int(np.argmin(np.where(fits, added, np.inf)))
        swapped = pick.copy()
        swapped[table.slot[best]] = best
        if not table.feasible(swapped):
            return pick
        pick = swapped


def _units(table: Table) -> Floats:
    """What one share of each row is worth: its cap, or its largest entry where that is more."""
    units = np.maximum(table.caps, table.rows.max(axis=1, initial=0.0))
    return np.where(units > 0, units, 1.0)


def _overspent(table: Table, used: Floats, unit: Floats) -> float:
    return float((np.maximum(0.0, used - table.caps) / unit).sum())


def _after_swaps(table: Table, pick: Ints, unit: Floats) -> Floats:
    """Total overspending after each single swap: [options]."""
    used = table.rows[:, pick].sum(axis=1)
    after = used[:, None] + table.rows - table.rows[:, pick][:, table.slot]
    over = np.maximum(0.0, after - table.caps[:, None]) / unit[:, None]
    return np.asarray(over.sum(axis=0), dtype=np.float64)
