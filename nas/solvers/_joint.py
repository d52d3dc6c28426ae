"""Several answers at once: the least summed loss of K choices that differ from each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from nas.ir.problem import Problem, Solution, Status
from nas.solvers._answer import Clock, answer, check_request, relative_gap
from nas.solvers._base import PROVEN_GAP
from nas.solvers._diverse import diverse
from nas.solvers._joint_program import joint_program
from nas.solvers._mip import MipSolver
from nas.solvers._pulp_adapter import Backend, IntegerAnswer, solve_integer
from nas.solvers._relaxation import Relaxation, relax
from nas.solvers._table import Ints, Table, build_table

_NAME = "joint"


class JointSolution(BaseModel):
    """Up to K solutions, best first, and what is proven of the sum of their objectives.

    `bound` <= the sum of any as many choices that differ pairwise in `differ` slots; `lp_bound` is
    the part that the dual prices of the solutions prove. The bound of each single solution is that
    of the problem alone. `greedy_objective` is the sum that greedy selection reached, None where it
    found fewer solutions. `exhausted`: one more solution that differs so is proven not to exist.
    Infeasible: no solution, no figures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    differ: int
    solutions: tuple[Solution, ...] = ()
    objective: float | None = None
    bound: float | None = None
    lp_bound: float | None = None
    gap: float | None = None
    greedy_objective: float | None = None
    exhausted: bool = False
    seconds: float


def diverse_jointly(
    problem: Problem,
    k: int,
    differ: int,
    *,
    time_limit_s: float | None = None,
    gap: float = PROVEN_GAP,
    backend: Backend | None = None,
) -> JointSolution:
    """Up to `k` solutions, any two of which differ in `differ` slots, with the least sum of losses.

    Greedy selection comes first; the joint search looks for less, so the sum is never above the
    greedy one. Where it is proven, or not found out in time, whether `k` solutions exist, there are
    fewer. `time_limit_s` holds for each greedy solve and, once more, for the joint search; `gap` is
    relative to the sum.

    Raises:
        ConfigError: `k`, `differ`, the limit or the gap makes no sense.
        PassError: nothing feasible was found in time, and nothing proven.
    """
    check_request(time_limit_s, gap)
    began = Clock(None)
    greedy = diverse(
        problem, k, differ, solver=MipSolver(backend), time_limit_s=time_limit_s, gap=gap
    )
    table = build_table(problem)
    relaxation = relax(table, backend) if greedy else None
    if relaxation is None:
        return JointSolution(status="infeasible", differ=differ, seconds=began.seconds)
    search = _Search(table, relaxation, differ, max(relaxation.bound, _bound(greedy[0])))
    clock = Clock(time_limit_s)
    exhausted = False
    for count in range(k, len(greedy), -1):
        found = search.run(count, None, clock, gap, backend)
        if found.picks is not None:
            break
        exhausted = math.isinf(found.bound)
    else:
        known = [table.pick(solution.choice) for solution in greedy]
        found = search.run(len(greedy), known, clock, gap, backend)
    joint = _joint(problem, table, greedy, found, differ, began.seconds)
    return joint.model_copy(update={"exhausted": exhausted})


@dataclass(frozen=True)
class _Found:
    """Picks [slots] by loss, None without any, and a proven bound of their summed loss: infinite
    where there are none."""

    picks: list[Ints] | None
    bound: float


@dataclass(frozen=True)
class _Search:
    """`least` is a proven bound of each single feasible loss."""

    table: Table
    relaxation: Relaxation
    differ: int
    least: float

    def run(
        self,
        count: int,
        known: list[Ints] | None,
        clock: Clock,
        gap: float,
        backend: Backend | None,
    ) -> _Found:
        """The best `count` picks; with `known` ones only better ones are searched for."""
        table, floor = self.table, count * self.least
        reached = math.inf if known is None else _total(table, known)
        if relative_gap(reached, floor) <= gap or clock.over:
            return _Found(known, min(floor, reached))
        core = self._core(count, reached)
        # What is allowed as a gap need not be searched for.
        allowed = 0.5 * gap * min(abs(floor), abs(reached)) if floor * reached > 0 else 0.0
        program = joint_program(table, core, count, self.differ, reached - allowed)
        found = solve_integer(program, time_limit_s=clock.left_s, abs_gap=allowed, backend=backend)
        picks = self._picks(found, core, count)
        if picks is None or _total(table, picks) >= reached:
            picks = known
        if found.outcome == "infeasible":
            return _Found(known, reached - allowed)
        best = math.inf if picks is None else _total(table, picks)
        bound = floor if found.bound is None else max(floor, found.bound)
        return _Found(picks, min(bound, best))

    def _core(self, count: int, reached: float) -> Ints:
        """The options that can be in `count` picks of a lower sum: the other picks lose `least`."""
        room = reached - (count - 1) * self.least - self.relaxation.bound
        rounding = 1e-9 * (abs(reached) + abs(self.relaxation.bound))
        return np.flatnonzero(self.relaxation.reduced <= room + rounding).astype(np.int64)

    def _picks(self, found: IntegerAnswer, core: Ints, count: int) -> list[Ints] | None:
        """The picks of an answer by loss; None where they hold within tolerances only."""
        if found.picked is None:
            return None
        slots = len(self.table.slots)
        columns = found.picked[: count * slots].reshape(count, slots) % len(core)
        picks = sorted((core[row] for row in columns), key=self.table.total_loss)
        apart = all(
            np.count_nonzero(one != other) >= self.differ
            for one, other in itertools.combinations(picks, 2)
        )
        return picks if apart and all(map(self.table.feasible, picks)) else None


def _joint(
    problem: Problem,
    table: Table,
    greedy: Sequence[Solution],
    found: _Found,
    differ: int,
    seconds: float,
) -> JointSolution:
    best, picks = greedy[0], found.picks or []
    solutions = tuple(
        answer(
            problem,
            table.choice(pick),
            bound=_bound(best),
            lp_bound=-math.inf if best.lp_bound is None else best.lp_bound,
            duals=best.duals,
            exact=True,
            solver=_NAME,
            seconds=seconds,
        )
        for pick in picks
    )
    objective = math.fsum(s.objective for s in solutions if s.objective is not None)
    lp_bound = math.fsum(s.lp_bound for s in solutions if s.lp_bound is not None)
    bound = min(objective, max(found.bound, lp_bound))
    gap = relative_gap(objective, bound)
    same = len(greedy) == len(solutions)
    return JointSolution(
        status="proven" if gap <= PROVEN_GAP else "incumbent",
        differ=differ,
        solutions=solutions,
        objective=objective,
        bound=bound,
        lp_bound=min(lp_bound, bound),
        gap=gap,
        greedy_objective=math.fsum(s.objective or 0.0 for s in greedy) if same else None,
        seconds=seconds,
    )


def _bound(solution: Solution) -> float:
    return -math.inf if solution.bound is None else solution.bound


def _total(table: Table, picks: Sequence[Ints]) -> float:
    return math.fsum(table.total_loss(pick) for pick in picks)
