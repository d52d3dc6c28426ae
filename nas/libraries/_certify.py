"""From a solution to an answer that is safe to print: summed again, or the reason there is none."""

from __future__ import annotations

from nas.errors import PassError
from nas.ir.problem import Problem, Solution
from nas.libraries._answer import Answer, Diagnosis
from nas.solvers import diagnose, verify


def certified(problem: Problem, solution: Solution, time_limit_s: float | None) -> Answer:
    """The answer of a verified solution, with a diagnosis where nothing is feasible.

    Raises PassError when the solution fails its certificate. `time_limit_s` is for each solve of
    the diagnosis.
    """
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
