"""The LP relaxation, and the Lagrangian bound that its dual prices prove."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nas.solvers._program import build_program
from nas.solvers._prune import undominated
from nas.solvers._pulp_adapter import Backend, solve_linear
from nas.solvers._table import Floats, Ints, Table


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
    priced = table.loss + answer.duals @ table.rows
    least = table.slot_min(priced)
    values = np.full(table.options, -1.0)
    values[columns] = answer.values
    return Relaxation(
        bound=math.fsum([*least.tolist(), *(-answer.duals * table.caps).tolist()]),
        duals=answer.duals,
        reduced=priced - least[table.slot],
        columns=columns,
        rounded=table.slot_argmin(-values),
    )
