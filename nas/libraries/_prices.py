"""Prices in words that say of budgets without a price what they cost all the same."""

from __future__ import annotations

from typing import TypeVar

from nas.ir.problem import Problem, Solution
from nas.libraries._answer import Answer
from nas.solvers import duals_in_words, without_unpriced

AnswerT = TypeVar("AnswerT", bound=Answer)


def priced(
    problem: Problem, solution: Solution, answer: AnswerT, time_limit_s: float | None
) -> AnswerT:
    """`answer`, that of `solution`, with one more short solve for each budget of LP price 0.

    `time_limit_s` is for each of them; see `without_unpriced`.
    """
    without = without_unpriced(problem, solution, time_limit_s=time_limit_s)
    words = duals_in_words(problem, solution, without)
    return answer.model_copy(update={"prices": tuple(words)})
