"""Several good answers that differ from each other."""

from __future__ import annotations

from dataclasses import dataclass

from nas.errors import ConfigError, PassError
from nas.ir.problem import Problem, Solution
from nas.solvers._base import PROVEN_GAP, Difference, Known, Solver
from nas.solvers._mip import MipSolver


@dataclass(frozen=True)
class Selected:
    """Solutions found one after the other. `failure` says why a search ended with neither an answer
    nor a proof; None where all were found, or none is left."""

    solutions: tuple[Solution, ...]
    failure: str | None = None


def diverse(
    problem: Problem,
    k: int,
    differ: int,
    *,
    solver: Solver | None = None,
    time_limit_s: float | None = None,
    gap: float = PROVEN_GAP,
) -> list[Solution]:
    """Up to `k` solutions, each differing from all earlier ones in `differ` slots.

    Greedy: each is the best answer given those before it, with a time limit and a gap of its own,
    so they come best first as far as they are proven. The bound of one holds for the next, which
    has fewer choices left. The list is shorter when no further solution exists or none was found
    (`select_diverse` tells the two apart), and empty when the problem is infeasible. Raises
    PassError when the first solve ends with neither an answer nor a proof.
    """
    found = select_diverse(problem, k, differ, solver=solver, time_limit_s=time_limit_s, gap=gap)
    return list(found.solutions)


def select_diverse(
    problem: Problem,
    k: int,
    differ: int,
    *,
    solver: Solver | None = None,
    time_limit_s: float | None = None,
    gap: float = PROVEN_GAP,
) -> Selected:
    """As `diverse`, saying whether a list that is shorter than asked for is all that there is."""
    if k < 1 or not 1 <= differ <= len(problem.slots):
        raise ConfigError(
            f"diverse: {k} solutions differing in {differ} slots; give at least 1 solution and "
            f"between 1 and {len(problem.slots)} slots"
        )
    chosen = solver or MipSolver()
    found: list[Solution] = []
    while len(found) < k:
        forbid = [Difference(choice=earlier.choice, at_least=differ) for earlier in found]
        known = Known(choice=found[-1].choice, bound=found[-1].bound) if found else None
        try:
            solution = chosen.solve(
                problem, time_limit_s=time_limit_s, gap=gap, forbid=forbid, known=known
            )
        except PassError as error:
            if not found:
                raise
            return Selected(tuple(found), str(error))
        if solution.status == "infeasible":
            break
        found.append(solution)
    return Selected(tuple(found))
