"""The front over one or two budgets, each point certified, and what a plot of it needs."""

from __future__ import annotations

from collections.abc import Sequence

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
    limits the answer is their diagnosis. Raises PassError as `solver` and `verify` do.
    """
    limits = {axis.budget: axis.limits for axis in axes}
    points = sweep(problem, limits, solver=solver, time_limit_s=time_limit_s)
    for point in points:
        verify(point.problem, point.solution)
    kept = front(points)
    if not kept:
        loosest = next(point for point in points if point.searched)
        return Answers([certified(loosest.problem, loosest.solution, time_limit_s)])
    answers = [Answer.of(point.problem, point.solution) for point in kept]
    return Answers(answers, _notes(points, len(kept)), _plane(axes, points))


def _notes(points: Sequence[SweepPoint], kept: int) -> tuple[str, ...]:
    count, searched = len(points), sum(point.searched for point in points)
    notes = []
    if kept < count:
        notes.append(
            f"{count - kept} of {count} points left out: infeasible, or no better than another"
        )
    if searched < count:
        notes.append(f"{count - searched} of {count} points followed from others without a search")
    return tuple(notes)


def _plane(axes: Sequence[Axis], points: Sequence[SweepPoint]) -> Plane | None:
    if len(axes) != 2:
        return None
    losses = {point.place: point.solution.objective for point in points}
    first, second = axes
    grid = tuple(
        tuple(losses[i, j] for j in range(len(second.values))) for i in range(len(first.values))
    )
    if len(first.values) >= len(second.values):
        return Plane(first, second, grid)
    return Plane(second, first, tuple(zip(*grid, strict=True)))
