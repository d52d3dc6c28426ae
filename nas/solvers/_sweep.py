"""The front of loss against one or more budgets, by solves that build on each other.

Three facts spare work, for limits that are nowhere tighter than others: a choice that meets the
tighter ones meets the looser ones; no choice within the tighter ones loses less than a bound
proven for the looser ones; and where nothing meets the looser ones, nothing meets the tighter ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from nas.errors import ConfigError
from nas.ir.problem import Problem, Solution
from nas.solvers._answer import answer, infeasible, relative_gap
from nas.solvers._base import PROVEN_GAP, Known, Solver
from nas.solvers._mip import MipSolver


@dataclass(frozen=True)
class SweepPoint:
    """The answer under one combination of limits.

    `place` holds the position on each axis. `searched` is False where the answer followed from
    those of other limits.
    """

    place: tuple[int, ...]
    problem: Problem
    swept: tuple[str, ...]
    solution: Solution
    searched: bool

    @cached_property
    def _tightness(self) -> tuple[float, ...]:
        """The limit of each swept budget, its sign turned for `min`: more is looser."""
        limits = {b.name: b.limit if b.sense == "max" else -b.limit for b in self.problem.budgets}
        return tuple(limits[name] for name in self.swept)

    @cached_property
    def _spent(self) -> tuple[float, ...]:
        """The total of each swept budget, in the same sense."""
        by_name = {budget.name: budget for budget in self.problem.budgets}
        return tuple(
            self.solution.costs[by_name[name].cost] * (1 if by_name[name].sense == "max" else -1)
            for name in self.swept
        )

    @property
    def feasible(self) -> bool:
        return self.solution.objective is not None

    def looser_than(self, limits: tuple[float, ...]) -> bool:
        """Whether no limit of this point is tighter than the one of `limits`."""
        return all(mine >= other for mine, other in zip(self._tightness, limits, strict=True))

    def fits(self, limits: tuple[float, ...]) -> bool:
        """Whether the choice of this point meets `limits`, too."""
        return self.feasible and all(
            mine <= other for mine, other in zip(self._spent, limits, strict=True)
        )

    @property
    def rank(self) -> tuple[tuple[float, ...], float, bool, tuple[int, ...]]:
        """Sorts points so that none comes before another that dominates it."""
        return (self._spent, _loss(self), not self.searched, self.place)

    def no_worse_than(self, other: SweepPoint) -> bool:
        """No more of any swept budget and no more loss; both points must be feasible."""
        return self.fits(other._spent) and _loss(self) <= _loss(other)


def with_limit(problem: Problem, budget_name: str, limit: float) -> Problem:
    """A copy of `problem` with another limit for one budget; raises ConfigError if it has none."""
    names = [budget.name for budget in problem.budgets]
    if budget_name not in names:
        raise ConfigError(f"no budget {budget_name!r}; this problem has: {', '.join(names)}")
    budgets = tuple(
        budget.model_copy(update={"limit": limit}) if budget.name == budget_name else budget
        for budget in problem.budgets
    )
    return problem.model_copy(update={"budgets": budgets})


def sweep(
    problem: Problem,
    axes: Mapping[str, Sequence[float]],
    *,
    solver: Solver | None = None,
    time_limit_s: float | None = None,
    gap: float = PROVEN_GAP,
) -> list[SweepPoint]:
    """Solve under every combination of the limits in `axes`, from the loosest to the tightest.

    `axes` maps names of budgets to limits; the points come in the order of their places, the last
    axis fastest. A point is searched only where the points before it do not settle it, and then
    starts from what they prove. `time_limit_s` and `gap` hold for each search.

    Raises:
        ConfigError: a budget is unknown.
        PassError: a search ended with neither an answer nor a proof.
    """
    chosen = solver or MipSolver()
    names = tuple(axes)
    points: list[SweepPoint] = []
    for place in _loosest_first(problem, axes):
        limited = problem
        for name, i in zip(names, place, strict=True):
            limited = with_limit(limited, name, axes[name][i])
        known = _Known.of(limited, names, points)
        solution = known.answer(limited, chosen.name, gap)
        searched = solution is None
        if solution is None:
            solution = chosen.solve(
                limited, time_limit_s=time_limit_s, gap=gap, known=known.for_search()
            )
        points.append(SweepPoint(place, limited, names, solution, searched))
    return sorted(points, key=lambda point: point.place)


def front(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """The undominated points, from the tightest on; of equal ones the one that was searched.

    A point is dominated when another has no more loss and no more of any swept budget's cost (no
    less, for `min`). Points where nothing is feasible are left out.
    """
    kept: list[SweepPoint] = []
    for point in sorted((p for p in points if p.feasible), key=lambda p: p.rank):
        if not any(other.no_worse_than(point) for other in kept):
            kept.append(point)
    return kept


@dataclass(frozen=True)
class _Known:
    """What earlier points say of a new one: `looser` has the best bound, `fitting` the best choice
    that is feasible here."""

    looser: SweepPoint | None
    fitting: SweepPoint | None

    @classmethod
    def of(cls, limited: Problem, names: tuple[str, ...], points: Sequence[SweepPoint]) -> _Known:
        here = {b.name: b.limit if b.sense == "max" else -b.limit for b in limited.budgets}
        limits = tuple(here[name] for name in names)
        return cls(
            max((p for p in points if p.looser_than(limits)), key=_bound, default=None),
            min((p for p in points if p.fits(limits)), key=_loss, default=None),
        )

    def answer(self, problem: Problem, solver: str, gap: float) -> Solution | None:
        """The answer where nothing is left to search for."""
        if self.looser is None:
            return None
        if not self.looser.feasible:
            return infeasible(problem, solver=solver, seconds=0.0)
        proof, fitting = self.looser.solution, self.fitting
        if fitting is None or proof.lp_bound is None:
            return None
        if relative_gap(_loss(fitting), _bound(self.looser)) > gap:
            return None
        # The prices prove at least as much here: limits that shrink only raise that bound.
        return answer(
            problem,
            fitting.solution.choice,
            bound=_bound(self.looser),
            lp_bound=proof.lp_bound,
            duals=proof.duals,
            exact=proof.proven or fitting.solution.proven,
            solver=solver,
            seconds=0.0,
        )

    def for_search(self) -> Known | None:
        """The bound, and the best choice to start from, be it one to repair."""
        start = self.fitting or self.looser
        if start is None:
            return None
        if self.looser is None:
            return Known(choice=start.solution.choice)
        near, lp_gap = self.looser.solution, None
        if near.proven and near.lp_bound is not None:
            lp_gap = max(0.0, _loss(self.looser) - near.lp_bound)
        return Known(choice=start.solution.choice, bound=near.bound, lp_gap=lp_gap)


def _loosest_first(problem: Problem, axes: Mapping[str, Sequence[float]]) -> list[tuple[int, ...]]:
    """Every combination of positions, each after all that are looser."""
    senses = {budget.name: budget.sense for budget in problem.budgets}
    orders = [
        sorted(range(len(values)), key=values.__getitem__, reverse=senses.get(name) != "min")
        for name, values in axes.items()
    ]
    return list(itertools.product(*orders))


def _loss(point: SweepPoint) -> float:
    return math.inf if point.solution.objective is None else point.solution.objective


def _bound(point: SweepPoint) -> float:
    """Infinite where nothing is feasible: neither is anything under tighter limits."""
    return math.inf if point.solution.bound is None else point.solution.bound
