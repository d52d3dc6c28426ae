"""Answer: what `nas solve RUN` says, in the form that an answer for any library has."""

from __future__ import annotations

import time

from nas.errors import InfeasibleError
from nas.ir import RefineStep, Solution
from nas.libraries import Answers, RunAnswer, priced
from nas.passes._artefacts import Artefacts
from nas.passes.refine import known_steps
from nas.passes.solve import judge_solution, make_problem
from nas.solvers import last_kept
from nas.uncertainty import Scrutiny


def answer(artefacts: Artefacts, scrutiny: Scrutiny | None = None) -> Answers:
    """The solution beside its limits and their prices, or why nothing meets the budgets."""
    began, context = time.perf_counter(), artefacts.context
    try:
        solution = artefacts.solution
    except InfeasibleError as error:
        seconds = time.perf_counter() - began
        return Answers(RunAnswer.refused(error, context.config.solve.solver, seconds))
    parts = artefacts.costs, artefacts.usable, artefacts.scores
    problem = make_problem(context, *parts)
    steps = known_steps(context, problem, artefacts.usable, artefacts.block_keys, solution)
    judged = None if scrutiny is None else judge_solution(context, *parts, solution, scrutiny)
    realised = next((step.realised_kl for step in steps if step.choice == solution.choice), None)
    plain = RunAnswer.of(problem, solution)
    found = priced(problem, solution, plain, context.config.solve.time_limit_s).model_copy(
        update={
            "batch": context.batch if context.config.target.batches else None,
            "realised_kl": realised,
            "uncertainty": judged,
        }
    )
    return Answers(found, _moved(solution, steps))


def _moved(solution: Solution, steps: list[RefineStep]) -> tuple[str, ...]:
    """That the student of the run has another choice, where it has."""
    if not steps or (end := last_kept(steps)).choice == solution.choice:
        return ()
    count = sum(end.choice[slot] != variant for slot, variant in solution.choice.items())
    return (
        f"refine moved on from this choice, in {count} of {len(solution.choice)} slots, to a "
        f"realised KL of {end.realised_kl:.6g} (solutions/refined.json)",
    )
