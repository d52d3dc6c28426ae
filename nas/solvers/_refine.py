"""Sequential re-linearisation: expand about a choice, step, keep what a real run confirms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from nas.ir.problem import Problem, RefineStep
from nas.solvers._quadratic import Quadratic, best_swaps, improve, option_names

Choice = Mapping[str, str]
Expand = Callable[[Choice, int], tuple[Problem, Quadratic]]


def refine_choice(
    start: Choice,
    *,
    expand: Expand,
    realise: Callable[[Choice], float],
    rounds: int,
    radius: int,
    swaps: int = 0,
    advance: Callable[[int], None] = lambda rounds: None,
) -> list[RefineStep]:
    """Every choice that was run, `start` first; the last kept one has the lowest KL.

    `expand(choice, round)` gives the options that may be moved to, the choice's own among them, and
    the change of the loss about the choice, in the order of `option_names`; `realise` runs a
    choice. An expansion costs many runs, so each serves several: the best choices within the
    radius, within half of it, and so on down to one slot, and the best `swaps` of one or two slots.
    The lowest is kept if it is lower than the present choice; a round that keeps none ends the
    refinement.
    """
    present = _step(0, 0, start, start, realise(start))
    steps = [present.model_copy(update={"kept": True})]
    for n in range(1, rounds + 1):
        found = [
            _step(n, left, present.choice, choice, realise(choice), present.realised_kl + change)
            for left, choice, change in _proposals(
                *expand(present.choice, n), present.choice, radius, swaps
            )
        ]
        best = min(found, key=lambda step: step.realised_kl, default=present)
        better = best.realised_kl < present.realised_kl
        steps += [s.model_copy(update={"kept": better and s is best}) for s in found]
        if not better:
            advance(rounds - n + 1)
            break
        present = best
        advance(1)
    return steps


def _proposals(
    problem: Problem, model: Quadratic, present: Choice, radius: int, swaps: int
) -> Iterator[tuple[int, dict[str, str], float]]:
    """(radius, choice, change of the loss that the expansion says), each choice once."""
    names, seen = option_names(problem), [dict(present)]
    for left, choice in _ladder(problem, model, present, radius, swaps):
        if choice not in seen:
            seen.append(choice)
            at = np.array([names.index(f"{slot}/{v}") for slot, v in choice.items()])
            yield left, choice, model.value(at)


def _ladder(
    problem: Problem, model: Quadratic, present: Choice, radius: int, swaps: int
) -> Iterator[tuple[int, dict[str, str]]]:
    while radius >= 1:
        choice = improve(problem, model, present, radius=radius)
        yield radius, choice
        radius = min(radius, sum(choice[slot] != present[slot] for slot in choice)) // 2
    for choice in best_swaps(problem, model, present, swaps):
        yield 2, choice


def last_kept(steps: list[RefineStep]) -> RefineStep:
    """Where a refinement ended."""
    return [step for step in steps if step.kept][-1]


def _step(
    n: int,
    radius: int,
    before: Choice,
    now: Choice,
    realised: float,
    expected: float | None = None,
) -> RefineStep:
    return RefineStep(
        round=n,
        radius=radius,
        moved_slots=sum(now[slot] != before[slot] for slot in now),
        expected_kl=realised if expected is None else expected,
        realised_kl=realised,
        kept=False,
        choice=dict(now),
    )
