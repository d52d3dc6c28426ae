"""Refine: step away from the solution of the summed scores where the realised KL says so.

Sums of single swaps know nothing of what blocks do to each other, and hold near the teacher only.
Each round expands the KL to second order about the present choice, pairs included, moves to the
best choice inside a trust region, and keeps it only if its KL, run as a whole network on the
scoring text, is lower. The answer is an incumbent of the summed problem: its bound still holds for
the sum, its realised KL is what it was chosen by.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nas.ir import Architecture, BlockSpec, Candidate, KeepTeacher, Problem, Solution
from nas.passes._context import PassContext
from nas.passes.score import library_network
from nas.run import content_key, json_writer
from nas.sensitivity import Realiser, expand
from nas.solvers import improve, option_names, verify, with_choice


def refine(
    context: PassContext,
    problem: Problem,
    candidates: Iterable[Candidate],
    block_keys: Mapping[str, str],
    solution: Solution,
) -> Solution:
    """The solution moved to where the realised KL is lowest; itself with `refine.rounds` 0."""
    config = context.config.refine
    if config.rounds == 0:
        return solution
    candidates = tuple(candidates)
    keys = sorted(block_keys[c.id] for c in candidates)
    key = content_key("refine", problem, solution.choice, config, context.data_key, keys)
    record = context.run.fetch("refine", key)
    if record is None:
        started = time.perf_counter()
        history = _Rounds(context, problem, candidates, solution).run()
        data = {"choice": history[-1]["choice"], "rounds": history}
        seconds = time.perf_counter() - started
        files = {"solutions/refined.json": json_writer(data)}
        record = context.run.store("refine", key, files, data, seconds)
    kept = [step for step in record.data["rounds"] if step["kept"]]
    refined = with_choice(problem, solution, kept[-1]["choice"], kept[-1]["realised_kl"])
    verify(problem, refined)
    return refined


class _Rounds:
    """The state of a refinement: present choice, its realised KL, and what was tried."""

    def __init__(
        self,
        context: PassContext,
        problem: Problem,
        candidates: tuple[Candidate, ...],
        solution: Solution,
    ) -> None:
        self._context, self._problem, self._solution = context, problem, solution
        self._specs: dict[str, BlockSpec] = {c.id: c.spec for c in candidates}
        self._network = library_network(context)
        device = self._network.teacher.embed.weight.device
        self._ids = context.text.score.to(device)
        self._realise = Realiser(self._network, self._ids, context.config.score.batch_sequences)
        self._choice = dict(solution.choice)
        self._kl = self._realised(self._choice)
        self._history = [self._step(0, 0, self._choice, 0.0, self._kl, kept=True)]

    def run(self) -> list[dict[str, Any]]:
        """Every choice tried, the solution first; `kept` marks those that became the present."""
        rounds = self._context.config.refine.rounds
        with self._context.progress.task("refine", rounds) as advance:
            for n in range(1, rounds + 1):
                moved = self._round(n)
                advance(1 if moved else rounds - n + 1)
                if not moved:
                    break
        return self._history

    def _round(self, n: int) -> bool:
        config = self._context.config.refine
        expansion = expand(
            self._network,
            self._architecture(self._choice),
            self._swaps(),
            self._ids,
            draws=config.draws,
            seed=self._context.config.seed + n,
        )
        problem = _restricted(self._problem, set(expansion.names))
        names = option_names(problem)
        model = expansion.quadratic(names)
        radius = config.radius
        while radius >= 1:
            choice = improve(problem, model, self._choice, radius=radius)
            if choice == self._choice:
                return False
            at = np.array([names.index(f"{slot}/{v}") for slot, v in choice.items()])
            realised = self._realised(choice)
            kept = realised < self._kl
            expected = self._kl + model.value(at)
            self._history.append(self._step(n, radius, choice, expected, realised, kept=kept))
            if kept:
                self._choice, self._kl = choice, realised
                return True
            radius //= 2
        return False

    def _step(
        self,
        n: int,
        radius: int,
        choice: Mapping[str, str],
        expected: float,
        realised: float,
        *,
        kept: bool,
    ) -> dict[str, Any]:
        moved = sum(choice[slot] != self._choice[slot] for slot in choice)
        return {
            "round": n,
            "radius": radius,
            "moved_slots": moved,
            "expected_kl": expected if n else realised,
            "realised_kl": realised,
            "kept": kept,
            "choice": dict(choice),
        }

    def _realised(self, choice: Mapping[str, str]) -> float:
        return float(self._realise(self._architecture(choice)).mean())

    def _architecture(self, choice: Mapping[str, str]) -> Architecture:
        named = {slot: self._specs.get(f"{slot}/{variant}") for slot, variant in choice.items()}
        return Architecture(choices={slot: spec for slot, spec in named.items() if spec})

    def _swaps(self) -> dict[int, list[BlockSpec]]:
        """For each slot the options of least loss at the budgets' prices, the present one among
        them."""
        swaps = {}
        prices = {b.cost: self._solution.duals.get(b.name, 0.0) for b in self._problem.budgets}
        for k, slot in enumerate(self._network.teacher.slot_ids):
            options = self._problem.slots[slot.id]
            ranked = sorted(
                options,
                key=lambda o: o.loss + sum(p * o.costs[cost] for cost, p in prices.items()),
            )
            names = [o.variant for o in ranked[: self._context.config.refine.options]]
            wanted = dict.fromkeys([self._choice[slot.id], "teacher", *names])
            swaps[k] = [self._specs.get(f"{slot.id}/{v}", KeepTeacher()) for v in wanted]
        return swaps


def _restricted(problem: Problem, names: set[str]) -> Problem:
    """The problem with only the options that were expanded."""
    slots = {
        slot: tuple(option for option in options if f"{slot}/{option.variant}" in names)
        for slot, options in problem.slots.items()
    }
    return problem.model_copy(update={"slots": slots})
