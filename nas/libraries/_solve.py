"""Solve a query: one answer, several that differ, or a front; each verified before it is given."""

from __future__ import annotations

from dataclasses import replace

from nas.ir.problem import Problem
from nas.libraries._answer import Answer, Answers, JointAnswer
from nas.libraries._certify import certified
from nas.libraries._front import solve_front
from nas.libraries._judge import all_compared, judged
from nas.libraries._library import BlockLibrary
from nas.libraries._plane import Axis
from nas.libraries._prices import priced
from nas.libraries._problem import make_problem, uncounted
from nas.libraries._query import Query, Sweep
from nas.libraries._recount import check_rows
from nas.progress import Progress
from nas.solvers import (
    Difference,
    Solver,
    create_solver,
    diverse_jointly,
    select_diverse,
    verify,
    verify_joint,
)


def solve_library(library: BlockLibrary, query: Query, progress: Progress | None = None) -> Answers:
    """Answer `query`; every solution is verified, and every answer counted again from the rows.

    Raises:
        ConfigError: a path, a limit or the solver is unknown or makes no sense.
        ArtifactError: the library lacks a value that is needed.
        PassError: nothing was found in time, or an answer fails its certificate.
    """
    answers = _answers(library, query, progress)
    for answer in answers.every:
        check_rows(library, query, answer)
    return answers


def _answers(library: BlockLibrary, query: Query, progress: Progress | None) -> Answers:
    problem, solver = make_problem(library, query), create_solver(query.solver)
    notes = library.notes + tuple(
        f"{library.path} does not state what {cost} amounts to outside the slots: "
        "only the slots are counted"
        for cost in uncounted(library, problem)
    )
    if query.sweeps:
        axes = [_axis(asked) for asked in query.sweeps]
        front = solve_front(problem, axes, solver, query.time_limit_s)
        front = replace(front, notes=(*notes, *front.notes))
        return all_compared(library, problem, query, front)
    if query.solutions is not None:
        several = _jointly if query.diverse == "jointly" else _several
        found, more = several(problem, query, solver)
        return all_compared(library, problem, query, Answers(found, (*notes, *more)))
    solution = solver.solve(problem, time_limit_s=query.time_limit_s)
    answer = certified(problem, solution, query.time_limit_s)
    if answer.infeasibility is None:
        answer = priced(problem, solution, answer, query.time_limit_s)
    return Answers(judged(library, problem, query, answer, progress), notes)


def _several(
    problem: Problem, query: Query, solver: Solver
) -> tuple[list[Answer], tuple[str, ...]]:
    wanted, differ, limit_s = query.solutions or 1, query.differ or 1, query.time_limit_s
    found = select_diverse(problem, wanted, differ, solver=solver, time_limit_s=limit_s)
    solutions = found.solutions
    if not solutions:
        return [_refused(problem, solver, limit_s)], ()
    answers = []
    for i, solution in enumerate(solutions):
        earlier = [Difference(choice=s.choice, at_least=differ) for s in solutions[:i]]
        verify(problem, solution, forbid=earlier)
        answers.append(Answer.of(problem, solution))
    return answers, _short(len(answers), wanted, differ, found.failure is None)


def _jointly(problem: Problem, query: Query, solver: Solver) -> tuple[JointAnswer, tuple[str, ...]]:
    wanted, differ, limit_s = query.solutions or 1, query.differ or 1, query.time_limit_s
    found = diverse_jointly(problem, wanted, differ, time_limit_s=limit_s)
    verify_joint(problem, found)
    if not found.solutions:
        return JointAnswer.of(problem, found, _refused(problem, solver, limit_s).infeasibility), ()
    short = _short(len(found.solutions), wanted, differ, found.exhausted)
    return JointAnswer.of(problem, found), short


def _short(count: int, wanted: int, differ: int, exhausted: bool) -> tuple[str, ...]:
    if count == wanted:
        return ()
    if exhausted:
        return (f"{count} of {wanted} solutions: no further one differs in {differ} slots",)
    return (
        f"{count} of {wanted} solutions: the search for a further one ended without an answer; "
        "that none differs enough is not proven",
    )


def _axis(asked: Sweep) -> Axis:
    return Axis(asked.path, asked.values, asked.path, asked.values)


def _refused(problem: Problem, solver: Solver, time_limit_s: float | None) -> Answer:
    return certified(problem, solver.solve(problem, time_limit_s=time_limit_s), time_limit_s)
