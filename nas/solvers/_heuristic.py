"""What heuristics share: the bound beside their pick, and honesty when they find none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from nas.errors import PassError
from nas.ir.problem import Problem, Solution
from nas.solvers._answer import (
    Clock,
    answer,
    budget_bound,
    budget_duals,
    check_request,
    infeasible,
)
from nas.solvers._base import PROVEN_GAP, Difference, Known, Solver
from nas.solvers._relaxation import relax
from nas.solvers._table import Ints, Table, build_table


class Heuristic(Solver):
    """A solver without a proof of its own; its `bound` is the LP relaxation's.

    It answers `incumbent` with a gap, or `infeasible` where the relaxation has no solution. When it
    finds nothing although the relaxation has one it raises PassError: that is no proof.
    """

    def solve(
        self,
        problem: Problem,
        *,
        time_limit_s: float | None = None,
        gap: float = PROVEN_GAP,
        forbid: Sequence[Difference] = (),
        known: Known | None = None,
    ) -> Solution:
        """As `Solver.solve`; `gap` has no effect."""
        check_request(time_limit_s, gap)
        clock = Clock(time_limit_s)
        table = build_table(problem, forbid)
        relaxation = relax(table)
        if relaxation is None:
            return infeasible(problem, solver=self.name, seconds=clock.seconds)
        pick = self._search(table, clock)
        if pick is None or not table.feasible(pick):
            raise PassError(
                f"solver {self.name}: found no choice within the budgets, which does not prove "
                "that there is none; use the solver mip"
            )
        return answer(
            problem,
            table.choice(pick),
            bound=relaxation.bound if known is None else known.at_least(relaxation.bound),
            lp_bound=min(relaxation.bound, budget_bound(table, relaxation)),
            duals=budget_duals(table, relaxation),
            exact=False,
            solver=self.name,
            seconds=clock.seconds,
        )

    @abstractmethod
    def _search(self, table: Table, clock: Clock) -> Ints | None:
        """A pick [slots] of option indices, or None."""
