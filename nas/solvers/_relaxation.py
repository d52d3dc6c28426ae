"""The LP relaxation, and the Lagrangian bound that its dual prices prove."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nas.solvers._program import build_program
from nas.solvers._prune import undominated
from nas.solvers._pulp_adapter import Backend, solve_linear
from nas.solvers._table import Floats, Ints, Table

_STEPS = 40
_SHRINK = 0.9


@dataclass(frozen=True)
class Relaxation:
    """`bound` <= every feasible loss. `duals` [rows] >= 0: loss saved by one more unit of a row.

    `reduced` [options] >= 0: any feasible pick that holds an option loses at least
    `bound + reduced[option]`. `columns` are the options that dominance left, `rounded` [slots] the
    options with the largest LP values.
    """

    bound: float
    duals: Floats
    reduced: Floats
    columns: Ints
    rounded: Ints


def relax(table: Table, backend: Backend | None = None) -> Relaxation | None:
    """Solve the LP relaxation of `table`; None when it proves that nothing is feasible.

    The bound is not the solver's figure but the Lagrangian function at its duals (Geoffrion 1974),
    `sum over slots of min(loss + duals @ rows) - duals @ caps`, which holds for any duals >= 0
    whatever the solver's tolerances, and equals the LP optimum at the optimal ones.
    """
    if np.any(table.caps < 0):
        return None
    columns = undominated(table)
    answer = solve_linear(build_program(table, columns), backend)
    if not answer.feasible:
        return None
    values = np.full(table.options, -1.0)
    values[columns] = answer.values
    return priced_at(table, answer.duals, columns, table.slot_argmin(-values))


def priced_at(table: Table, duals: Floats, columns: Ints, rounded: Ints) -> Relaxation:
    """The Lagrangian bound at `duals` [rows] >= 0, with what is known of options and picks."""
    priced = table.loss + duals @ table.rows
    least = table.slot_min(priced)
    return Relaxation(
        bound=math.fsum([*least.tolist(), *(-duals * table.caps).tolist()]),
        duals=duals,
        reduced=priced - least[table.slot],
        columns=columns,
        rounded=rounded,
    )


def ascend(table: Table, duals: Floats, target: float) -> Relaxation:
    """A bound close to the relaxation's, from nearby `duals` and a known feasible loss `target`.

    Subgradient steps on the Lagrangian function with Polyak's length (Held, Wolfe and Crowder
    1974), the target coming closer as steps fail to help; much cheaper than the LP. The best duals
    met are kept.
    """
    unit = np.where(table.caps > 0, table.caps, 1.0)
    rows, caps = table.rows / unit[:, None], table.caps / unit
    prices = duals * unit
    best, best_value, share = prices, -np.inf, 1.0
    for _ in range(_STEPS):
        pick = table.slot_argmin(table.loss + prices @ rows)
        over = rows[:, pick].sum(axis=1) - caps
        value = float(table.loss[pick].sum() + prices @ over)
        if value > best_value:
            best, best_value = prices, value
        else:
            share *= _SHRINK
        square = float(over @ over)
        if square <= 0.0:
            break
        prices = np.maximum(0.0, prices + share * max(0.0, target - value) / square * over)
    pick = table.slot_argmin(table.loss + best @ rows)
    return priced_at(table, best / unit, undominated(table), pick)
