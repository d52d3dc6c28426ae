"""Exact search by labels: partial picks, slot by slot, cut by many Lagrangian bounds at once.

A label is the loss and the weight of each row of the slots decided so far. For any prices >= 0,
`loss + prices @ weight + sum over open slots of min(loss + prices @ rows) - prices @ caps` is at
most the loss of every completion (weak duality), so a label above the threshold under one of a few
dozen price vectors is dropped. All labels of a slot are handled as arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas.solvers._answer import Clock
from nas.solvers._relaxation import Relaxation
from nas.solvers._table import Floats, Ints, Table

_MAX_STEP = 1_000_000
_MAX_TOTAL = 4_000_000
_BEAM = 5_000
_SPREADS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5)
_PRICES_PER_SPREAD = 8
_BATCH = 8


@dataclass(frozen=True)
class LabelAnswer:
    """What is known of the feasible picks that lose at most the threshold.

    `found`: `pick` [slots] is the best. `none`: there are none; `pick`, if any, is feasible and
    loses more. `gave_up`: too many labels or no time left, so nothing is proven; `pick`, if any,
    comes from following the most promising labels only.
    """

    outcome: Literal["found", "none", "gave_up"]
    pick: Ints | None = None


@dataclass
class _Labels:
    """Labels side by side: `loss` [labels], `used` [rows, labels]; `steps` lead back to picks."""

    loss: Floats
    used: Floats
    steps: list[tuple[Ints, Ints]]

    def trace(self, label: int) -> Ints:
        chosen = []
        for parent, option in reversed(self.steps):
            chosen.append(option[label])
            label = int(parent[label])
        return np.array(chosen[::-1], dtype=np.int64)


def search_labels(
    table: Table, relaxation: Relaxation, threshold: float, clock: Clock
) -> LabelAnswer:
    """The best feasible pick that loses at most `threshold`, or the proof that there is none."""
    slop = 1e-12 * (abs(threshold) + float(np.abs(table.loss).max()))
    columns = relaxation.columns
    core = columns[relaxation.reduced[columns] <= threshold - relaxation.bound + slop]
    members = [core[table.slot[core] == i] for i in range(len(table.slots))]
    if any(not m.size for m in members):
        return LabelAnswer("none")
    prices = _prices(table, relaxation.duals)
    least = np.array([(table.loss[m] + prices @ table.rows[:, m]).min(axis=1) for m in members]).T
    ceiling = threshold + slop + prices @ table.caps - least.sum(axis=1)
    labels = _Labels(np.zeros(1), np.zeros((len(table.caps), 1)), [])
    order = _order(table, members, relaxation.duals)
    total, complete = 0, True
    for slot in order:
        if clock.over:
            return LabelAnswer("gave_up")
        if len(labels.loss) * len(members[slot]) > _MAX_STEP or total > _MAX_TOTAL:
            complete = False
        if not complete:
            _keep_best(labels, prices, ceiling)
        ceiling = ceiling + least[:, slot]
        _extend(labels, table, members[slot], prices, ceiling)
        total += len(labels.loss)
        if not len(labels.loss):
            return LabelAnswer("none" if complete else "gave_up")
    # The last labels may lose more than the threshold: prices also count their unused caps.
    pick = labels.trace(int(np.argmin(labels.loss)))[np.argsort(order)]
    if not table.feasible(pick):
        return LabelAnswer("gave_up")
    if not complete:
        return LabelAnswer("gave_up", pick)
    return LabelAnswer("found" if table.total_loss(pick) <= threshold + slop else "none", pick)


def _extend(labels: _Labels, table: Table, options: Ints, prices: Floats, ceiling: Floats) -> None:
    """Join every label with every option of the next slot and keep what may still succeed."""
    parent = np.repeat(np.arange(len(labels.loss), dtype=np.int64), len(options))
    option = np.tile(options, len(labels.loss))
    loss = labels.loss[parent] + table.loss[option]
    used = labels.used[:, parent] + table.rows[:, option]
    slack = 1e-12 * (np.abs(table.caps) + 1e-300)
    kept = np.flatnonzero((used <= (table.caps + slack)[:, None]).all(axis=0))
    for begin in range(0, len(prices), _BATCH):
        some = slice(begin, begin + _BATCH)
        value = loss[kept] + prices[some] @ used[:, kept] - ceiling[some, None]
        kept = kept[(value <= 0).all(axis=0)]
    labels.loss, labels.used = loss[kept], used[:, kept]
    labels.steps.append((parent[kept], option[kept]))


def _keep_best(labels: _Labels, prices: Floats, ceiling: Floats) -> None:
    """Keep the `_BEAM` labels with the lowest bounds; nothing is proven from here on."""
    if len(labels.loss) <= _BEAM:
        return
    value = (prices @ labels.used - ceiling[:, None]).max(axis=0) + labels.loss
    kept = np.sort(np.argpartition(value, _BEAM)[:_BEAM])
    labels.loss, labels.used = labels.loss[kept], labels.used[:, kept]
    parent, option = labels.steps[-1]
    labels.steps[-1] = (parent[kept], option[kept])


def _prices(table: Table, duals: Floats) -> Floats:
    """The LP's dual prices and seeded variations of them: [prices, rows], all >= 0.

    A row that does not bind at the LP optimum may bind in a part of the search, so its price varies
    around a small share of what loss costs in units of that row.
    """
    generator = np.random.default_rng(0)
    spread_loss = np.ptp(table.loss) / max(1, len(table.slots))
    heaviest = table.rows.max(axis=1, initial=0.0)
    scale = np.where(heaviest > 0, 0.01 * spread_loss / np.where(heaviest > 0, heaviest, 1.0), 0.0)
    base = np.where(duals > 0, duals, scale)
    varied = [
        np.where(duals > 0, 1.0, generator.integers(0, 2, len(duals)))
        * base
        * np.exp(generator.normal(0.0, spread, len(duals)))
        for spread in _SPREADS
        for _ in range(_PRICES_PER_SPREAD)
    ]
    return np.vstack([duals, *varied])


def _order(table: Table, members: list[Ints], duals: Floats) -> Ints:
    """Decided slots first, then those whose options differ most in priced weight."""
    spread = [float(duals @ np.ptp(table.rows[:, m], axis=1)) for m in members]
    keys = [(len(m) > 1, -s) for m, s in zip(members, spread, strict=True)]
    return np.array(sorted(range(len(members)), key=keys.__getitem__), dtype=np.int64)
