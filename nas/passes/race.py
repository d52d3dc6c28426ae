"""Race: replace-one scores that spend sequences only where the choice is undecided.

All candidates are scored on a few sequences. Those that could still be chosen under the run's
budgets are scored on more, until each slot has one left or the scoring text ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nas.errors import PassError
from nas.ir import Candidate, Problem, Slot
from nas.passes._context import PassContext
from nas.passes.score import (
    grouped,
    library_network,
    read_scores,
    replace_one,
    slot_key,
    store_scores,
)
from nas.run import content_key
from nas.sensitivity import MixedNetwork
from nas.solvers import MipSolver
from nas.uncertainty import open_options

Scores = dict[str, np.ndarray]
MakeProblem = Callable[[Mapping[str, np.ndarray]], Problem]


def race(
    context: PassContext,
    candidates: Iterable[Candidate],
    block_keys: Mapping[str, str],
    make_problem: MakeProblem,
) -> Scores:
    """Per-sequence scores of every candidate: id -> KL in nats, [sequences that were used].

    NaN where a candidate was out before a sequence came. Other budgets or costs are another race,
    which takes over what this one has measured; `solve` alone takes the scores as they are.
    """
    run, by_slot = context.run, grouped(candidates)
    whole = {slot: slot_key(context, group, block_keys) for slot, group in by_slot.items()}
    if all(run.intact(f"score/{slot.id}", key) for slot, key in whole.items()):
        context.progress.say("all candidates are scored on the whole text already")
    else:
        keys = {slot: content_key("race", key) for slot, key in whole.items()}
        costs = make_problem({c.id: np.zeros(1) for group in by_slot.values() for c in group})
        key = content_key("race", context.config.score, costs, list(keys.values()))
        raced = "score" in run.closed or run.fetch("race", key) is not None
        if not (raced and all(run.fetch(f"score/{s.id}", keys[s]) for s in by_slot)):
            _Race(context, by_slot, block_keys).run(make_problem, keys, key)
    scores: Scores = {}
    for slot in by_slot:
        scores |= read_scores(run.path("scores", f"{slot.id}.parquet"), slot)
    return scores


class _Race:
    """Scores so far: NaN where a candidate has not run."""

    def __init__(
        self,
        context: PassContext,
        by_slot: Mapping[Slot, list[Candidate]],
        block_keys: Mapping[str, str],
    ) -> None:
        self._context, self._by_slot, self._block_keys = context, by_slot, block_keys
        self._config, self._text = context.config.score, context.text.score
        self._network: MixedNetwork | None = None
        names = [c.id for group in by_slot.values() for c in group]
        self.scores = {name: np.full(len(self._text), np.nan) for name in names}

    def run(self, make_problem: MakeProblem, keys: Mapping[Slot, str], key: str) -> None:
        """Measure until every slot is decided or nothing is left to measure; store it."""
        running, seen, rounds = set(self.scores), 0, []
        while True:
            seen = min(seen + self._config.race_sequences, len(self._text))
            self._measure(running, seen)
            so_far = {name: values[:seen] for name, values in self.scores.items()}
            undecided = self._undecided(make_problem(so_far), so_far)
            running = {f"{slot}/{v}" for slot, variants in undecided.items() for v in variants}
            running &= self.scores.keys()  # the teacher's own block needs no score
            rounds.append({"sequences": seen, "open": len(running), "undecided": len(undecided)})
            self._context.progress.say(
                f"after {seen} sequences {len(undecided)} slots are undecided, "
                f"{len(running)} of {len(self.scores)} candidates still in"
            )
            complete = not any(np.isnan(so_far[name]).any() for name in running)
            if not undecided or (seen == len(self._text) and complete):
                break
        for slot, group in self._by_slot.items():
            columns = {c.spec.label: so_far[c.id] for c in group}
            store_scores(self._context, slot, keys[slot], columns, 0.0)
        self._record(key, rounds)

    def _undecided(self, problem: Problem, so_far: Scores) -> dict[str, list[str]]:
        limit = self._context.config.solve.time_limit_s
        solution = MipSolver().solve(problem, time_limit_s=limit)
        if solution.status == "infeasible":  # the pass solve will say so
            return {}
        looks = math.ceil(len(self._text) / self._config.race_sequences)
        still = open_options(problem, solution, so_far, self._config.race_confidence, looks)
        return {slot: variants for slot, variants in still.items() if len(variants) > 1}

    def _measure(self, names: set[str], seen: int) -> None:
        """Fill in what `names` lack of the first `seen` sequences, some sequences at a time."""
        step = self._config.race_sequences
        for start in range(0, seen, step):
            lacking = {
                slot: wanted
                for slot, group in self._by_slot.items()
                if (wanted := [c for c in group if c.id in names and self._lacks(c, start)])
            }
            if lacking:
                self._heat(lacking, start, min(start + step, seen))

    def _lacks(self, candidate: Candidate, sequence: int) -> bool:
        return bool(np.isnan(self.scores[candidate.id][sequence]))

    def _heat(self, wanted: dict[Slot, list[Candidate]], start: int, stop: int) -> None:
        """Some candidates on some sequences; each slot is a unit of its own, of no pass."""
        run, made = self._context.run, {}
        for slot, group in wanted.items():
            blocks = [self._block_keys[c.id] for c in group]
            made[slot] = content_key("heat", self._context.goal_key, blocks, start, stop)
        missing = {
            s: g for s, g in wanted.items() if run.fetch(_heat_unit(s, made[s]), made[s]) is None
        }
        began = time.perf_counter()
        for slot, columns in self._scored(missing, start, stop):
            table = pa.table({label: pa.array(values) for label, values in columns.items()})
            files = {_heat_file(slot, made[slot]): lambda file, t=table: pq.write_table(t, file)}
            seconds, began = time.perf_counter() - began, time.perf_counter()
            run.store(_heat_unit(slot, made[slot]), made[slot], files, None, seconds)
        for slot in wanted:
            for name, values in read_scores(run.path(_heat_file(slot, made[slot])), slot).items():
                if not np.isfinite(values).all():
                    raise PassError(f"{name} scores {values.tolist()}; its block is damaged")
                self.scores[name][start:stop] = values

    def _scored(
        self, wanted: dict[Slot, list[Candidate]], start: int, stop: int
    ) -> Iterable[tuple[Slot, dict[str, np.ndarray]]]:
        if not wanted:
            return
        if self._network is None:
            self._network = library_network(self._context)
        ids = self._text[start:stop].to(self._network.teacher.device)
        batch, folder = self._config.batch_sequences, self._context.run.root
        with self._context.progress.task("score", sum(map(len, wanted.values()))) as advance:
            yield from replace_one(self._network, wanted, ids, batch, advance, folder)

    def _record(self, key: str, rounds: list[dict[str, int]]) -> None:
        """What was spent of what scoring everything on the whole text would have taken."""
        spent = sum(int((~np.isnan(values)).sum()) for values in self.scores.values())
        whole = len(self.scores) * len(self._text)
        data = {"rounds": rounds, "evaluations": spent, "without_race": whole}
        self._context.run.store("race", key, data=data)
        self._context.progress.say(
            f"{spent:,} of {whole:,} evaluations, {1 - spent / whole:.0%} saved by the race"
        )


def _heat_unit(slot: Slot, key: str) -> str:
    return f"heat/{slot.id}-{key[:12]}"


def _heat_file(slot: Slot, key: str) -> str:
    return f"scores/heats/{slot.id}-{key[:12]}.parquet"
