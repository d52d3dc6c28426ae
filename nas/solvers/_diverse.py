"""Several good answers that differ from each other."""

from __future__ import annotations

from nas.errors import ConfigError
from nas.ir.problem import Problem, Solution
from nas.solvers._base import PROVEN_GAP, Difference, Known, Solver
from nas.solvers._mip import MipSolver


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
    has fewer choices left. The list is shorter when it is proven that no further solution exists,
    and empty when the problem is infeasible. Raises PassError when a solve ends with neither an
    answer nor a proof.
    """
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
        solution = chosen.solve(
            problem, time_limit_s=time_limit_s, gap=gap, forbid=forbid, known=known
        )
        if solution.status == "infeasible":
            break
        found.append(solution)
    return found
