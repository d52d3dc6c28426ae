"""Refine: step away from the solution of the summed scores where the realised KL says so.

Sums of single swaps know nothing of what blocks do to each other, and hold near the teacher only.
Each round expands the KL to second order about the present choice, pairs included, runs the best
choices within some distances of it as whole networks on the scoring text, and keeps the lowest if
its KL is below that of the present choice. The answer is an incumbent of the summed problem: its
bound still holds for the sum, its realised KL is what it was chosen by.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from nas.ir import Architecture, BlockSpec, Candidate, KeepTeacher, Problem, RefineStep, Solution
from nas.passes._context import PassContext
from nas.passes.score import library_network
from nas.run import content_key, json_writer
from nas.sensitivity import Realiser, expand
from nas.solvers import (
    Quadratic,
    last_kept,
    option_names,
    refine_choice,
    verify,
    with_choice,
)


def refine(
    context: PassContext,
    problem: Problem,
    candidates: Iterable[Candidate],
    block_keys: Mapping[str, str],
    solution: Solution,
) -> Solution:
    """The solution moved to where the realised KL is lowest."""
    candidates = tuple(candidates)
    key = _key(context, problem, candidates, block_keys, solution)
    record = context.run.fetch("refine", key)
    if record is None:
        started = time.perf_counter()
        rounds = [s.model_dump() for s in _run(context, problem, candidates, solution)]
        seconds = time.perf_counter() - started
        files = {"solutions/refined.json": json_writer({"rounds": rounds})}
        record = context.run.store("refine", key, files, {"rounds": rounds}, seconds)
    end = last_kept(_steps(record.data))
    refined = with_choice(problem, solution, end.choice, end.realised_kl)
    verify(problem, refined)
    return refined


def known_steps(
    context: PassContext,
    problem: Problem,
    candidates: Iterable[Candidate],
    block_keys: Mapping[str, str],
    solution: Solution,
) -> list[RefineStep]:
    """Those of the refinement that began at this solution, none where none is kept."""
    record = context.run.intact("refine", _key(context, problem, candidates, block_keys, solution))
    return [] if record is None else _steps(record.data)


def _key(
    context: PassContext,
    problem: Problem,
    candidates: Iterable[Candidate],
    block_keys: Mapping[str, str],
    solution: Solution,
) -> str:
    keys = sorted(block_keys[c.id] for c in candidates)
    shared = (context.config.refine, context.goal_key, context.config.seed, keys)
    return content_key("refine", problem, solution.choice, solution.duals, *shared)


def _steps(data: Mapping[str, Any]) -> list[RefineStep]:
    return [RefineStep.model_validate(step) for step in data["rounds"]]


def _run(
    context: PassContext, problem: Problem, candidates: tuple[Candidate, ...], solution: Solution
) -> list[RefineStep]:
    config, moves = context.config.refine, Moves(context, problem, candidates, solution)
    with context.progress.task("refine", config.rounds) as advance:
        return refine_choice(
            solution.choice,
            expand=moves.expand,
            realise=moves.realise,
            rounds=config.rounds,
            radius=config.radius,
            swaps=config.swaps,
            advance=advance,
        )


class Moves:
    """What a refinement asks of the network: an expansion about a choice, and a choice's KL."""

    def __init__(
        self,
        context: PassContext,
        problem: Problem,
        candidates: tuple[Candidate, ...],
        solution: Solution,
    ) -> None:
        self._context, self._problem = context, problem
        self._specs: dict[str, BlockSpec] = {c.id: c.spec for c in candidates}
        self._prices = problem.prices(solution.duals)
        self._network = library_network(context)
        self._ids = context.text.score.to(self._network.teacher.device)
        batch = context.config.score.batch_sequences
        self._realiser = Realiser(self._network, self._ids, batch)

    def realise(self, choice: Mapping[str, str]) -> float:
        """KL of the whole network on the scoring text."""
        return float(self._realiser(self._architecture(choice)).mean())

    def expand(self, choice: Mapping[str, str], n: int) -> tuple[Problem, Quadratic]:
        """The expansion about a choice, over the most promising options of each slot."""
        expansion = expand(
            self._network,
            self._architecture(choice),
            self._swaps(choice),
            self._ids,
            draws=self._context.config.refine.draws,
            seed=self._context.config.seed + n,
            folder=self._context.run.root,
        )
        problem = _restricted(self._problem, set(expansion.names))
        return problem, expansion.quadratic([[name] for name in option_names(problem)])

    def _architecture(self, choice: Mapping[str, str]) -> Architecture:
        named = {slot: self._specs.get(f"{slot}/{variant}") for slot, variant in choice.items()}
        return Architecture(choices={slot: spec for slot, spec in named.items() if spec})

    def _swaps(self, choice: Mapping[str, str]) -> dict[int, list[BlockSpec]]:
        """For each slot the options of least loss at the budgets' prices, the present one among
        them."""
        swaps = {}
        for k, slot in enumerate(self._network.teacher.slot_ids):
            ranked = sorted(
                self._problem.slots[slot.id],
                key=lambda o: o.loss + sum(p * o.costs[cost] for cost, p in self._prices.items()),
            )
            names = [o.variant for o in ranked[: self._context.config.refine.options]]
            wanted = dict.fromkeys([choice[slot.id], "teacher", *names])
            swaps[k] = [self._specs.get(f"{slot.id}/{v}", KeepTeacher()) for v in wanted]
        return swaps


def _restricted(problem: Problem, names: set[str]) -> Problem:
    """The problem with only the options that were expanded."""
    slots = {
        slot: tuple(option for option in options if f"{slot}/{option.variant}" in names)
        for slot, options in problem.slots.items()
    }
    return problem.model_copy(update={"slots": slots})
