"""Solve a query: one answer, several that differ, or a front; each verified before it is given."""

from __future__ import annotations

from dataclasses import dataclass

from nas.errors import PassError
from nas.ir.problem import Problem, Solution
from nas.libraries._answer import Answer, Diagnosis
from nas.libraries._judge import judged
from nas.libraries._library import BlockLibrary
from nas.libraries._problem import make_problem, uncounted
from nas.libraries._query import Query, Sweep
from nas.progress import Progress
from nas.solvers import (
    Difference,
    Solver,
    create_solver,
    diagnose,
    diverse,
    sweep,
    verify,
    with_limit,
)


@dataclass(frozen=True)
class Answers:
    """`found` as the query asked for it; a single `Answer` unless it asked for several.

    `notes` is what a reader should know beside them.
    """

    found: Answer | list[Answer]
    notes: tuple[str, ...] = ()

    @property
    def infeasible(self) -> Diagnosis | None:
        """Why there is no answer, None where there is one."""
        first = self.found[0] if isinstance(self.found, list) else self.found
        return first.infeasibility


def solve_library(library: BlockLibrary, query: Query, progress: Progress | None = None) -> Answers:
    """Answer `query`; every solution is summed again from the library by `verify`.

    Raises:
        ConfigError: a path, a limit or the solver is unknown or makes no sense.
        ArtifactError: the library lacks a value that is needed.
        PassError: nothing was found in time, or an answer fails its certificate.
    """
    problem, solver = make_problem(library, query), create_solver(query.solver)
    notes = tuple(
        f"{library.path} does not state what {cost} amounts to outside the slots: "
        "only the slots are counted"
        for cost in uncounted(library, problem)
    )
    if query.sweep is not None:
        answers, more = _front(problem, query.sweep, solver, query.time_limit_s)
        return Answers(answers, (*notes, *more))
    if query.solutions is not None:
        answers, more = _several(problem, query, solver)
        return Answers(answers, (*notes, *more))
    solution = solver.solve(problem, time_limit_s=query.time_limit_s)
    answer = _certified(problem, solution, query.time_limit_s)
    return Answers(judged(library, problem, query, answer, progress), notes)


def _several(
    problem: Problem, query: Query, solver: Solver
) -> tuple[list[Answer], tuple[str, ...]]:
    wanted, differ, limit_s = query.solutions or 1, query.differ or 1, query.time_limit_s
    solutions = diverse(problem, wanted, differ, solver=solver, time_limit_s=limit_s)
    if not solutions:
        return [_refused(problem, solver, limit_s)], ()
    answers = []
    for i, solution in enumerate(solutions):
        earlier = [Difference(choice=s.choice, at_least=differ) for s in solutions[:i]]
        verify(problem, solution, forbid=earlier)
        answers.append(Answer.of(problem, solution))
    short = f"{len(answers)} of {wanted} solutions: no further one differs in {differ} slots"
    return answers, () if len(answers) == wanted else (short,)


def _front(
    problem: Problem, asked: Sweep, solver: Solver, time_limit_s: float | None
) -> tuple[list[Answer], tuple[str, ...]]:
    """The undominated points, from the tightest limit on, each under the limit it was solved for.

    Limits too tight for any choice have no point; where the loosest is, the query is infeasible.
    """
    front = sweep(problem, asked.path, asked.values, solver=solver, time_limit_s=time_limit_s)
    if not front:
        return [_refused(problem, solver, time_limit_s)], ()
    answers = []
    for solution in front:
        reached = solution.costs[asked.path] + solution.slack[asked.path]
        limit = min(asked.values, key=lambda value: abs(value - reached))
        answers.append(_certified(with_limit(problem, asked.path, limit), solution, time_limit_s))
    left = asked.count - len(front)
    note = f"{left} of {asked.count} points left out: infeasible, or no better than another"
    return answers, (note,) if left else ()


def _refused(problem: Problem, solver: Solver, time_limit_s: float | None) -> Answer:
    return _certified(problem, solver.solve(problem, time_limit_s=time_limit_s), time_limit_s)


def _certified(problem: Problem, solution: Solution, time_limit_s: float | None) -> Answer:
    verify(problem, solution)
    if solution.status != "infeasible":
        return Answer.of(problem, solution)
    return Answer.of(problem, solution, _why(problem, solution, time_limit_s))


def _why(problem: Problem, solution: Solution, time_limit_s: float | None) -> Diagnosis:
    """The diagnosis, always by the exact solver; what is known already where it takes too long."""
    try:
        return Diagnosis.of(diagnose(problem, time_limit_s=time_limit_s))
    except PassError as error:
        alone = "; ".join(f"{name} {value:.10g}" for name, value in solution.tightest.items())
        return Diagnosis(
            conflict=(),
            tightest=solution.tightest,
            relaxation=None,
            budgets=(),
            explanation=f"no choice meets the budgets; the search for the reason ended early "
            f"({error}). Tightest value of each budget alone: {alone}",
        )
