"""Picks under budgets where swaps interact: a quadratic loss, local search over certified starts.

The loss of a pick x about an incumbent is sum_i linear_i x_i + sum_ij pair_ij x_i x_j, over the
options that differ from the incumbent's. No bound is claimed: the exact solver certifies the start
that it is given, and the caller realises what the search returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nas.errors import ConfigError
from nas.ir.problem import Problem
from nas.solvers._table import Floats, Ints, Table, build_table

_MAX_MOVES = 1000


@dataclass(frozen=True)
class Quadratic:
    """`linear` [options] and symmetric `pair` [options, options] in the order of the problem.

    `pair` holds the whole second order, its diagonal included. Rows and columns of the incumbent's
    own options are zero.
    """

    linear: Floats
    pair: Floats

    def value(self, pick: Ints) -> float:
        return float(self.linear[pick].sum() + self.pair[np.ix_(pick, pick)].sum())


def improve(
    problem: Problem,
    model: Quadratic,
    start: Mapping[str, str],
    *,
    incumbent: Mapping[str, str] | None = None,
    radius: int | None = None,
) -> dict[str, str]:
    """The best choice found from the feasible `start` by single and double swaps.

    With `radius`, the answer differs from `incumbent` (default: `start`) in at most so many slots.
    Raises ConfigError where `start` does not meet the budgets or lies outside the radius.
    """
    table = build_table(problem)
    pick = _indices(table, start)
    home = pick if incumbent is None else _indices(table, incumbent)
    far = len(table.slots) if radius is None else radius
    if not table.feasible(pick) or int((pick != home).sum()) > far:
        raise ConfigError("the start of a local search must meet the budgets and the radius")
    for _ in range(_MAX_MOVES):
        move = _best_move(table, model, pick, home, far)
        if move is None:
            break
        for option in move:
            pick = pick.copy()
            pick[table.slot[option]] = option
    return table.choice(pick)


def best_swaps(
    problem: Problem, model: Quadratic, start: Mapping[str, str], count: int
) -> list[dict[str, str]]:
    """The `count` choices of least loss that differ from the feasible `start` in one or two slots,
    best first, also where the loss would rise."""
    table = build_table(problem)
    pick = _indices(table, start)
    single, double = _gains(table, model, pick, pick, 2)
    single[pick] = double[pick] = double[:, pick] = np.inf  # not a swap
    double[np.tril_indices(len(double))] = np.inf  # each two once
    merged = np.concatenate([single, double.ravel()])
    found = []
    for at in np.argsort(merged)[:count]:
        if not np.isfinite(merged[at]):
            break
        inner = int(at) - len(single)
        options = (int(at),) if inner < 0 else divmod(inner, len(single))
        swapped = pick.copy()
        for option in options:
            swapped[table.slot[option]] = option
        found.append(table.choice(swapped))
    return found


def option_names(problem: Problem) -> tuple[str, ...]:
    """`slot/variant` of every option, in the order of `Quadratic`."""
    return tuple(f"{slot}/{o.variant}" for slot, group in problem.slots.items() for o in group)


def _indices(table: Table, choice: Mapping[str, str]) -> Ints:
    found = []
    for s, slot in enumerate(table.slots):
        options = np.flatnonzero(table.slot == s)
        found += [int(i) for i in options if table.variants[i] == choice.get(slot)]
    if len(found) != len(table.slots):
        raise ConfigError("a start names one known option for every slot")
    return np.array(found, dtype=np.int64)


def _best_move(
    table: Table, model: Quadratic, pick: Ints, home: Ints, radius: int
) -> tuple[int, ...] | None:
    """The one or two options whose entry lowers the loss most; None where none does."""
    single, double = _gains(table, model, pick, home, radius)
    tiny = -1e-12 * (1 + abs(model.value(pick)))
    one, two = int(single.argmin()), np.unravel_index(int(double.argmin()), double.shape)
    if min(single[one], double[two]) >= tiny:
        return None
    return (one,) if single[one] <= double[two] else (int(two[0]), int(two[1]))


def _gains(
    table: Table, model: Quadratic, pick: Ints, home: Ints, radius: int
) -> tuple[Floats, Floats]:
    """Change of the loss by the entry of each option, and of each two in different slots; infinite
    where it breaks a budget or leaves the radius."""
    now = pick[table.slot]  # the pick that each option would replace
    pair = model.pair
    field = pair[:, pick].sum(axis=1)
    gain = model.linear - model.linear[now] + 2 * (field - field[now])
    gain += np.diagonal(pair) - 2 * pair[np.arange(len(now)), now] + np.diagonal(pair)[now]
    extra = table.rows - table.rows[:, now]
    slack = table.caps - table.rows[:, pick].sum(axis=1)
    away = (np.arange(len(now)) != home[table.slot]).astype(int) - (now != home[table.slot])
    room = radius - int((pick != home).sum())

    fits = np.all(extra <= slack[:, None], axis=0) & (away <= room)
    both = gain[:, None] + gain[None, :]
    both += 2 * (pair - pair[:, now] - pair[now, :] + pair[np.ix_(now, now)])
    fits_both = table.slot[:, None] != table.slot[None, :]
    fits_both &= away[:, None] + away[None, :] <= room
    for row, left in zip(extra, slack, strict=True):
        fits_both &= row[:, None] + row[None, :] <= left
    return np.where(fits, gain, np.inf), np.where(fits_both, both, np.inf)
