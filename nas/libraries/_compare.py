"""How sure each of several answers is, and how sure it is to lose more than the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nas._words import number
from nas.ir.problem import Problem
from nas.libraries._answer import Answer, Answers, JointAnswer
from nas.uncertainty import Noise, compare

_FEW = 10


def compared(answers: Answers, problem: Problem, noise: Noise, confidence: float) -> Answers:
    """The same with `measured` on every listed answer and `difference` on all but the first.

    `problem` has the slots and losses of all of them; its budgets do not matter.
    """
    found = answers.found
    if answers.infeasible is not None or isinstance(found, Answer):
        return answers
    if isinstance(found, JointAnswer):
        sure = _compared(found.solutions, problem, noise, confidence)
        found = found.model_copy(update={"solutions": tuple(sure)})
    else:
        found = _compared(found, problem, noise, confidence)
    return replace(answers, found=found, notes=(*answers.notes, *_notes(noise, confidence)))


def _compared(
    answers: Sequence[Answer], problem: Problem, noise: Noise, confidence: float
) -> list[Answer]:
    found = compare(problem, [answer.choice for answer in answers], noise, confidence)
    return [
        answer.model_copy(update={"measured": measured, "difference": difference})
        for answer, (measured, difference) in zip(answers, found, strict=True)
    ]


def _notes(noise: Noise, confidence: float) -> tuple[str, ...]:
    few = noise.sequences is not None and noise.sequences < _FEW
    wide = "; so few make wide ones" if few else ""
    return (f"intervals at {number(100 * confidence)} % confidence, by {noise.basis}{wide}",)
