"""Sequential re-linearisation: expand about a choice, step, keep what a real run confirms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nas.ir.problem import Problem, RefineStep
from nas.solvers._quadratic import Quadratic, improve, option_names

Choice = Mapping[str, str]
Expand = Callable[[Choice, int], tuple[Problem, Quadratic]]


def refine_choice(
    start: Choice,
    *,
    expand: Expand,
    realise: Callable[[Choice], float],
    rounds: int,
    radius: int,
    advance: Callable[[int], None] = lambda rounds: None,
) -> list[RefineStep]:
    """Every choice that was run, `start` first; the last kept one has the lowest KL.

    `expand(choice, round)` gives the options that may be moved to, the choice's own among them, and
    the change of the loss about the choice, in the order of `option_names`; `realise` runs a
    choice. Within a round the radius is halved until a step is kept; a round without one ends it.
    """
    choice, kl = dict(start), realise(start)
    steps = [_step(0, 0, choice, choice, kl, kl, kept=True)]
    for n in range(1, rounds + 1):
        problem, model = expand(choice, n)
        names = option_names(problem)
        left, kept = radius, False
        while left >= 1 and not kept:
            proposal = improve(problem, model, choice, radius=left)
            if proposal == choice:
                break
            at = np.array([names.index(f"{slot}/{v}") for slot, v in proposal.items()])
            realised = realise(proposal)
            kept = realised < kl
            expected = kl + model.value(at)
            steps.append(_step(n, left, choice, proposal, expected, realised, kept=kept))
            left = min(left, steps[-1].moved_slots) // 2
        if not kept:
            advance(rounds - n + 1)
            break
        choice, kl = dict(steps[-1].choice), steps[-1].realised_kl
        advance(1)
    return steps


def last_kept(steps: list[RefineStep]) -> RefineStep:
    """Where a refinement ended."""
    return [step for step in steps if step.kept][-1]


def _step(
    n: int,
    radius: int,
    before: Choice,
    now: Choice,
    expected: float,
    realised: float,
    *,
    kept: bool,
) -> RefineStep:
    return RefineStep(
        round=n,
        radius=radius,
        moved_slots=sum(now[slot] != before[slot] for slot in now),
        expected_kl=expected,
        realised_kl=realised,
        kept=kept,
        choice=dict(now),
    )
