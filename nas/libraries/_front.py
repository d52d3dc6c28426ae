"""The front over one or two budgets, each point certified, and what a plot of it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from nas.errors import PassError
from nas.ir.problem import Problem
from nas.libraries._answer import Answer, Answers
from nas.libraries._certify import certified
from nas.libraries._plane import Axis, Plane
from nas.solvers import Solver, SweepPoint, front, sweep, verify


def solve_front(
    problem: Problem, axes: Sequence[Axis], solver: Solver, time_limit_s: float | None
) -> Answers:
    """Solve `problem` under every combination of the limits of one or two axes.

    The answers are the undominated ones, from the tightest on; every point is verified, the others
    too. Where nothing is feasible under the loosest
    limits the answer is their diagnosis. Points at which the solver found nothing are left out with
    a note. Raises PassError as `verify` does, and where no point has an answer, as `solver` does.
    """
    points = _verified(problem, axes, solver, time_limit_s)
    kept = front(points)
    if not kept:
        return _none(points, time_limit_s)
    answers = [_answer(point, axes) for point in kept]
    return Answers(answers, _notes(len(points), len(kept), points), _plane(axes, points))


def solve_fronts(
    batches: Mapping[int, tuple[Problem, Sequence[Axis]]],
    solver: Solver,
    time_limit_s: float | None,
) -> Answers:
    """As `solve_front`, where the batch is a choice, too: at each point that at which least is
    lost, of two that lose the same the smaller. The axes of all batches have the same values."""
    every = {b: _verified(p, axes, solver, time_limit_s) for b, (p, axes) in batches.items()}
    first = next(iter(batches))
    best: dict[tuple[int, ...], _AtBatch] = {}
    for batch in sorted(batches):
        for point in every[batch]:
            here = _AtBatch(batch, point, tuple(batches[batch][1]))
            known = best.get(point.place)
            if point.feasible and (known is None or here.loss < known.loss):
                best[point.place] = here
    searches = [point for points in every.values() for point in points]
    if not best:
        return _none(searches, time_limit_s)
    kept: list[_AtBatch] = []
    for choice in sorted(best.values(), key=lambda c: (c.spent, c.loss, c.batch, c.point.place)):
        if not any(other.no_worse_than(choice) for other in kept):
            kept.append(choice)
    points = [best[p.place].point if p.place in best else p for p in every[first]]
    notes = _notes(len(points), len(kept), searches)
    return Answers([choice.answer() for choice in kept], notes, _plane(batches[first][1], points))


@dataclass(frozen=True)
class _AtBatch:
    """A feasible point, and the batch that its costs are of."""

    batch: int
    point: SweepPoint
    axes: tuple[Axis, ...]

    @property
    def loss(self) -> float:
        assert self.point.solution is not None
        assert self.point.solution.objective is not None
        return self.point.solution.objective

    @cached_property
    def spent(self) -> tuple[float, ...]:
        """The swept costs over what the first value of each axis allows at this batch: less is
        nearer to the tight end of what the user asked for, whatever the batch."""
        costs = {budget.name: budget.cost for budget in self.point.problem.budgets}
        assert self.point.solution is not None
        totals = self.point.solution.costs
        return tuple(totals[costs[axis.budget]] / axis.limits[0] for axis in self.axes)

    def no_worse_than(self, other: _AtBatch) -> bool:
        less = all(mine <= their for mine, their in zip(self.spent, other.spent, strict=True))
        return less and self.loss <= other.loss

    def answer(self) -> Answer:
        return _answer(self.point, self.axes).model_copy(update={"batch": self.batch})


def _answer(point: SweepPoint, axes: Sequence[Axis]) -> Answer:
    assert point.solution is not None
    asked = {axis.name: axis.values[i] for axis, i in zip(axes, point.place, strict=True)}
    return Answer.of(point.problem, point.solution).model_copy(update={"asked": asked})


def _verified(
    problem: Problem, axes: Sequence[Axis], solver: Solver, time_limit_s: float | None
) -> list[SweepPoint]:
    limits = {axis.budget: axis.limits for axis in axes}
    points = sweep(problem, limits, solver=solver, time_limit_s=time_limit_s)
    for point in points:
        if point.solution is not None:
            verify(point.problem, point.solution)
    return points


def _none(points: Sequence[SweepPoint], time_limit_s: float | None) -> Answers:
    unknown = [point.failure for point in points if not point.settled]
    if unknown:
        raise PassError(
            f"no point of the sweep has an answer ({len(unknown)} unknown): {unknown[0]}"
        )
    loosest = next(point for point in points if point.searched)
    assert loosest.solution is not None
    return Answers([certified(loosest.problem, loosest.solution, time_limit_s)])


def _notes(count: int, kept: int, searches: Sequence[SweepPoint]) -> tuple[str, ...]:
    searched, notes = sum(point.searched for point in searches), []
    unknown = sum(not point.settled for point in searches)
    if kept < count:
        why = "infeasible, unknown," if unknown else "infeasible,"
        notes.append(f"{count - kept} of {count} points left out: {why} or no better than another")
    if unknown:
        notes.append(
            f"{unknown} of {len(searches)} points unknown: the solver found nothing there, and did "
            "not prove that nothing is"
        )
    if searched < len(searches):
        left = len(searches) - searched
        notes.append(f"{left} of {len(searches)} points followed from others without a search")
    return tuple(notes)


def _plane(axes: Sequence[Axis], points: Sequence[SweepPoint]) -> Plane | None:
    if len(axes) != 2:
        return None
    losses = {p.place: p.solution.objective if p.solution else None for p in points}
    first, second = axes
    grid = tuple(
        tuple(losses[i, j] for j in range(len(second.values))) for i in range(len(first.values))
    )
    if len(first.values) >= len(second.values):
        return Plane(first, second, grid)
    return Plane(second, first, tuple(zip(*grid, strict=True)))
