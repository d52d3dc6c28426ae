"""The only file that touches PuLP: a program in, values and an honest status out.

PuLP calls a search "Optimal" also when its time limit stopped it; `sol_status` tells the two apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nas._imports import require
from nas.errors import CapabilityError, ConfigError
from nas.solvers._program import Program
from nas.solvers._table import Floats, Ints

Backend = Literal["highs", "cbc"]
Outcome = Literal["optimal", "feasible", "infeasible", "unknown"]

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class LinearAnswer:
    """`feasible` is False only when the relaxation was proven infeasible.

    `values` [columns], `duals` [rows]: loss saved by one more unit of each row's cap, >= 0, in the
    units of the table.
    """

    feasible: bool
    values: Floats
    duals: Floats


@dataclass(frozen=True)
class IntegerAnswer:
    """`picked` [groups] holds column positions, None without an incumbent.

    `bound` is the solver's own lower bound on the program's true loss, None where it gives none.
    """

    outcome: Outcome
    picked: Ints | None
    bound: float | None


def default_backend() -> Backend:
    """HiGHS where highspy is installed, else CBC; raises CapabilityError without either."""
    pulp = _pulp()
    if pulp.HiGHS(msg=False).available():
        return "highs"
    if _cbc(pulp, {}) is not None:
        return "cbc"
    raise CapabilityError(
        "no MIP solver is installed; HiGHS is preferred, add it with: pip install highspy"
    )


def solve_linear(program: Program, backend: Backend | None = None) -> LinearAnswer:
    """Solve the LP relaxation; raises CapabilityError when the solver gives no answer at all."""
    pulp = _pulp()
    model, columns, rows = _model(pulp, program, integer=False)
    model.solve(_solver(pulp, backend or default_backend(), mip=False, limit_s=None, abs_gap=None))
    if model.sol_status == pulp.LpSolutionInfeasible:
        return LinearAnswer(False, np.zeros(0), np.zeros(0))
    if model.sol_status != pulp.LpSolutionOptimal:
        raise CapabilityError(
            f"the LP solver ended without an answer (status {model.sol_status}); "
            "try the other one: pip install highspy"
        )
    # The sign of a dual depends on the solver's convention; those of <= rows are never positive.
    duals = np.array([max(0.0, -(row.pi or 0.0)) for row in rows]).reshape(len(rows))
    return LinearAnswer(True, _values(columns), duals * program.unit / program.row_units)


def solve_integer(
    program: Program,
    *,
    time_limit_s: float | None,
    abs_gap: float,
    backend: Backend | None = None,
) -> IntegerAnswer:
    """Branch and bound until the gap is at most `abs_gap` (true loss) or the time is over."""
    pulp = _pulp()
    chosen = backend or default_backend()
    model, columns, _ = _model(pulp, program, integer=True)
    scaled_gap = max(0.0, abs_gap) / program.unit
    limit_s = None if time_limit_s is None else max(0.01, time_limit_s)
    model.solve(_solver(pulp, chosen, mip=True, limit_s=limit_s, abs_gap=scaled_gap))
    if model.sol_status == pulp.LpSolutionInfeasible and model.status == pulp.LpStatusInfeasible:
        return IntegerAnswer("infeasible", None, None)
    picked = _picked(program, _values(columns))
    if picked is None or model.sol_status == pulp.LpSolutionNoSolutionFound:
        return IntegerAnswer("unknown", None, _highs_bound(chosen, model, program))
    optimal = model.sol_status == pulp.LpSolutionOptimal
    bound = _highs_bound(chosen, model, program)
    if bound is None and optimal:
        # CBC reports no bound: its own claim of optimality, less the gap it was allowed.
        reached = program.unit * float(program.loss[picked].sum()) + program.offset
        bound = reached - abs_gap
    return IntegerAnswer("optimal" if optimal else "feasible", picked, bound)


def _pulp() -> Any:
    return require("pulp", package="'pulp>=3.3.1,<5' highspy")


def _model(pulp: Any, program: Program, *, integer: bool) -> tuple[Any, list[Any], list[Any]]:
    model = pulp.LpProblem("selection", pulp.LpMinimize)
    category = pulp.LpBinary if integer else pulp.LpContinuous
    # An LP needs no upper bounds: each group sums to one. Without them duals stay with the rows.
    upper = 1 if integer else None
    columns = [
        model.add_variable(f"x{i:06d}", lowBound=0, upBound=upper, cat=category)
        for i in range(len(program.loss))
    ]
    prices = [] if program.slack is None else program.slack.tolist()
    excess = [model.add_variable(f"s{k:06d}", lowBound=0) for k in range(len(prices))]
    paid = [price * slack for price, slack in zip(prices, excess, strict=True)]
    model += _sum(pulp, program.loss, columns, columns[0]) + pulp.lpSum(paid)
    for members in np.split(np.arange(len(columns)), np.flatnonzero(np.diff(program.group)) + 1):
        model += pulp.lpSum([columns[i] for i in members]) == 1
    rows = []
    for k, (weighted, cap) in enumerate(zip(program.rows, program.caps, strict=True)):
        held = [columns[i] for i in weighted.columns]
        spent = _sum(pulp, weighted.weights, held, columns[0]) - pulp.lpSum(excess[k : k + 1])
        row = spent <= float(cap)
        model += row
        rows.append(row)
    return model, columns, rows


def _sum(pulp: Any, weights: Floats, columns: list[Any], spare: Any) -> Any:
    terms = [float(w) * x for w, x in zip(weights, columns, strict=True) if w != 0.0]
    # PuLP refuses an expression without a variable.
    return pulp.lpSum(terms or [0.0 * spare])


def _solver(
    pulp: Any, backend: Backend, *, mip: bool, limit_s: float | None, abs_gap: float | None
) -> Any:
    if backend == "highs":
        solver = pulp.HiGHS(
            mip=mip,
            msg=False,
            timeLimit=limit_s,
            gapRel=0.0 if mip else None,
            gapAbs=abs_gap,
            primal_feasibility_tolerance=_TOLERANCE,
            dual_feasibility_tolerance=_TOLERANCE,
            mip_feasibility_tolerance=_TOLERANCE,
        )
        if not solver.available():
            raise CapabilityError("HiGHS is not installed; add it with: pip install highspy")
        return solver
    if backend != "cbc":
        raise ConfigError(f"no MIP backend {backend!r}; choose highs or cbc")
    options = [f"primalT {_TOLERANCE}", f"dualT {_TOLERANCE}", "increment 1e-9"]
    solver = _cbc(
        pulp,
        {"mip": mip, "timeLimit": limit_s, "gapRel": 0.0, "gapAbs": abs_gap, "options": options},
    )
    if solver is None:
        raise CapabilityError("CBC is not installed; add it with: pip install 'pulp[cbc]'")
    return solver


def _cbc(pulp: Any, settings: dict[str, Any]) -> Any | None:
    """CBC as PuLP bundles it (before 4.0) or as `pulp[cbc]` installs it, None without either."""
    for name in ("PULP_CBC_CMD", "COIN_CMD"):
        kind = getattr(pulp, name, None)
        if kind is not None and kind(msg=False).available():
            return kind(msg=False, **settings)
    return None


def _values(columns: list[Any]) -> Floats:
    return np.array([column.value() or 0.0 for column in columns], dtype=np.float64)


def _picked(program: Program, values: Floats) -> Ints | None:
    """The column near 1 of each group, None when some group has none."""
    chosen = np.flatnonzero(values > 0.5)
    if len(chosen) != program.groups or not np.array_equal(
        program.group[chosen], np.arange(program.groups)
    ):
        return None
    return chosen.astype(np.int64)


def _highs_bound(backend: Backend, model: Any, program: Program) -> float | None:
    if backend != "highs":
        return None
    bound = float(model.solverModel.getInfo().mip_dual_bound)
    return program.unit * bound + program.offset if math.isfinite(bound) else None
