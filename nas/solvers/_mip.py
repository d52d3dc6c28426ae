"""The exact solver: LP relaxation, label search near it, branch and bound where that gives up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.errors import PassError
from nas.ir.problem import Problem, Solution
from nas.solvers._answer import (
    Clock,
    answer,
    budget_bound,
    budget_duals,
    check_request,
    infeasible,
    relative_gap,
)
from nas.solvers._base import PROVEN_GAP, Difference, Known, Solver
from nas.solvers._greedy import descend, marginal_greedy
from nas.solvers._labels import search_labels
from nas.solvers._program import build_program
from nas.solvers._pulp_adapter import Backend, IntegerAnswer, solve_integer
from nas.solvers._relaxation import Relaxation, relax
from nas.solvers._table import Floats, Ints, Table, build_table

_CORE_PER_SLOT = 6
_WIDEN = 4
_FIRST_SHARE = 0.15
_SHARE_GROWTH = 1.35
_MAX_THRESHOLDS = 16
_MAX_CUTS = 50
_SHORT_OF = 0.7
"""Share of a similar problem's LP gap at which to look first: short of it, for a threshold too high
costs more labels than one that is raised once or twice."""


@dataclass
class Search:
    """Best pick so far and the proven bound; `closed` when the search space is used up.

    `lp_gap` is the distance from LP bound to optimum of a similar problem, if one is known.
    """

    bound: float
    lp_gap: float | None = None
    pick: Ints | None = None
    loss: float = float("inf")
    closed: bool = False

    def offer(self, table: Table, pick: Ints | None) -> None:
        if pick is not None and table.feasible(pick) and table.total_loss(pick) < self.loss:
            self.pick, self.loss = pick, table.total_loss(pick)


class MipSolver(Solver):
    """Exact search: PuLP (HiGHS, or CBC where highspy is absent) for the LP and the hard cases.

    An option whose Lagrangian bound exceeds a known feasible loss is in no better answer, so only
    the few options near the LP optimum need a search. The label search looks for picks below a
    threshold that rises from the LP bound: a miss proves a bound, a hit is optimal. When it has too
    many labels, branch and bound takes over on a core that is widened until nothing outside can
    matter. The bound returned holds for the whole problem.
    """

    name: ClassVar[str] = "mip"

    def __init__(self, backend: Backend | None = None) -> None:
        self._backend = backend

    def solve(
        self,
        problem: Problem,
        *,
        time_limit_s: float | None = None,
        gap: float = PROVEN_GAP,
        forbid: Sequence[Difference] = (),
        known: Known | None = None,
    ) -> Solution:
        """As `Solver.solve`; raises CapabilityError when no MIP package is installed."""
        check_request(time_limit_s, gap)
        clock = Clock(time_limit_s)
        table = build_table(problem, forbid)
        relaxation = relax(table, self._backend)
        if relaxation is None:
            return infeasible(problem, solver=self.name, seconds=clock.seconds)
        state = self.search(table, relaxation, clock, gap, known)
        if state.pick is None:
            if state.closed:
                return infeasible(problem, solver=self.name, seconds=clock.seconds)
            raise PassError(
                f"solver mip: nothing feasible found in {clock.seconds:.1f} s, and not proven that "
                "nothing is; give a longer time limit"
            )
        return answer(
            problem,
            table.choice(state.pick),
            bound=state.bound,
            lp_bound=min(relaxation.bound, budget_bound(table, relaxation)),
            duals=budget_duals(table, relaxation),
            exact=True,
            solver=self.name,
            seconds=clock.seconds,
        )

    def search(
        self,
        table: Table,
        relaxation: Relaxation,
        clock: Clock,
        gap: float,
        known: Known | None = None,
    ) -> Search:
        """Search the whole of `table` until the gap is reached or the time is over."""
        state = _begin(table, relaxation, known or Known())
        raise_threshold(table, relaxation, state, clock, gap)
        reduced = relaxation.reduced[relaxation.columns]
        kept = _CORE_PER_SLOT * len(table.slots)
        while not settled(state, gap) and not clock.over:
            reach = _reach(reduced, kept, relaxation.bound, state)
            inner = reduced <= reach
            found = self._branch(table, relaxation.columns[inner], state, clock, gap)
            state.offer(table, found.picked)
            # A pick that leaves the core holds an option with a reduced cost above `reach`.
            outside = np.inf if inner.all() else relaxation.bound + reach
            inside = _bound_inside(found, relaxation.bound)
            state.bound = max(state.bound, min(inside, outside, state.loss))
            if inner.all() or found.outcome in ("feasible", "unknown"):
                state.closed = found.outcome == "infeasible"
                break
            kept = kept * _WIDEN if state.pick is None else len(reduced)
        return state

    def _branch(
        self, table: Table, core: Ints, state: Search, clock: Clock, gap: float
    ) -> IntegerAnswer:
        """Branch and bound on the options `core`; picks come back as table indices.

        A pick that only fits within the package's tolerance is ruled out and the search repeated.
        """
        cuts: list[Ints] = []
        while True:
            found = solve_integer(
                build_program(table, core, tuple(cuts)),
                time_limit_s=clock.left_s,
                abs_gap=_absolute_gap(state, gap),
                backend=self._backend,
            )
            if found.picked is None:
                return found
            pick = core[found.picked]
            if table.feasible(pick):
                return IntegerAnswer(found.outcome, pick, found.bound)
            cuts.append(pick)
            if len(cuts) > _MAX_CUTS or clock.over:
                return IntegerAnswer("unknown", None, found.bound)


def _begin(table: Table, relaxation: Relaxation, known: Known) -> Search:
    """Where the search starts: the better bound, and the best of the first picks."""
    state = Search(bound=known.at_least(relaxation.bound), lp_gap=known.lp_gap)
    picks = _first_picks(table, relaxation)
    if known.choice is not None:
        start = table.pick(known.choice)
        picks.append(
            descend(table, start) if table.feasible(start) else marginal_greedy(table, start)
        )
    for pick in picks:
        state.offer(table, pick)
    return state


def raise_threshold(
    table: Table,
    relaxation: Relaxation,
    state: Search,
    clock: Clock,
    gap: float,
    *,
    first_share: float = _FIRST_SHARE,
) -> None:
    """Label searches below a rising threshold until one succeeds, gives up, or none is needed.

    The first threshold is `first_share` of the way to the incumbent: larger where that is good.
    """
    reduced = relaxation.reduced[relaxation.columns]
    reach = first_share * _reach(reduced, 2 * len(table.slots), relaxation.bound, state)
    if state.lp_gap is not None:
        reach = max(reach, _SHORT_OF * state.lp_gap)
    # Nothing is found below a bound that is known already.
    reach = max(reach, _SHARE_GROWTH * (state.bound - relaxation.bound))
    for _ in range(_MAX_THRESHOLDS):
        if settled(state, gap) or reach <= 0:
            return
        threshold = min(relaxation.bound + reach, state.loss)
        found = search_labels(table, relaxation, threshold, clock)
        state.offer(table, found.pick)
        if found.outcome == "gave_up":
            return
        state.bound = max(state.bound, min(threshold, state.loss))
        reach *= _SHARE_GROWTH


def _first_picks(table: Table, relaxation: Relaxation) -> list[Ints | None]:
    rounded = relaxation.rounded
    return [
        rounded,
        descend(table, rounded) if table.feasible(rounded) else marginal_greedy(table, rounded),
        marginal_greedy(table),
    ]


def _reach(reduced: Floats, kept: int, lp_bound: float, state: Search) -> float:
    """The reduced cost up to which options enter the core: about `kept` of them, fewer where the
    incumbent shows that the others are in no better pick."""
    by_rank = float(np.partition(reduced, min(kept, len(reduced)) - 1)[min(kept, len(reduced)) - 1])
    rounding = 1e-9 * (abs(lp_bound) + abs(state.loss))
    return min(by_rank, state.loss - lp_bound + rounding)


def _bound_inside(found: IntegerAnswer, lp_bound: float) -> float:
    """A lower bound of all picks within the core."""
    if found.outcome == "infeasible":
        return float("inf")
    return lp_bound if found.bound is None else max(lp_bound, found.bound)


def _absolute_gap(state: Search, gap: float) -> float:
    """The difference in loss that `gap` allows wherever the optimum lies; 0 where it may be 0."""
    if state.bound < 0 < state.loss:
        return 0.0
    return 0.5 * gap * min(abs(state.bound), abs(state.loss))


def settled(state: Search, gap: float) -> bool:
    return state.pick is not None and relative_gap(state.loss, state.bound) <= gap
