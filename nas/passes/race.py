"""Race: replace-one scores that spend sequences only where the choice is undecided.

All candidates are scored on a few sequences. Those that could still be chosen under the run's
budgets are scored on more, until each slot has one left or the scoring text ends. The race is for
the budgets at hand: other budgets can be solved from the same scores, with less to rest on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nas.ir import Candidate, Problem, Slot
from nas.passes._context import PassContext
from nas.passes.score import library_network, read_scores, replace_one, slot_key, store_scores
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

    A candidate that left early has, for the sequences that it did not see, its mean scaled by how
    hard the others found them.
    """
    by_slot: dict[Slot, list[Candidate]] = {}
    for candidate in candidates:
        by_slot.setdefault(candidate.slot, []).append(candidate)
    keys = {slot: slot_key(context, group, block_keys) for slot, group in by_slot.items()}
    if not all(context.run.fetch(f"score/{s.id}", keys[s]) for s in by_slot):
        found = _Race(context, by_slot, block_keys).run(make_problem)
        for slot, group in by_slot.items():
            columns = {c.spec.label: found[c.id] for c in group}
            store_scores(context, slot, keys[slot], columns, 0.0)
    scores: Scores = {}
    for slot in by_slot:
        scores |= read_scores(context.run.path("scores", f"{slot.id}.parquet"), slot)
    return scores


class _Race:
    """Scores so far: NaN where a candidate has not seen a sequence."""

    def __init__(
        self,
        context: PassContext,
        by_slot: Mapping[Slot, list[Candidate]],
        block_keys: Mapping[str, str],
    ) -> None:
        self._context, self._block_keys = context, block_keys
        self._candidates = {c.id: c for group in by_slot.values() for c in group}
        self._text = context.text.score
        self._step = context.config.score.race_sequences
        self._network: MixedNetwork | None = None
        self.scores = {name: np.full(len(self._text), np.nan) for name in self._candidates}

    def run(self, make_problem: MakeProblem) -> Scores:
        """Measure until every slot is decided or nothing is left to measure."""
        running, seen, rounds = list(self._candidates), 0, []
        while True:
            seen = min(seen + self._step, len(self._text))
            self._measure(running, seen)
            filled = completed(self.scores, seen)
            undecided = self._undecided(make_problem(filled), seen)
            running = [
                f"{slot}/{v}"
                for slot, variants in undecided.items()
                for v in variants
                if f"{slot}/{v}" in self._candidates
            ]
            rounds.append({"sequences": seen, "open": len(running), "undecided": len(undecided)})
            self._context.progress.say(
                f"after {seen} sequences {len(undecided)} slots are undecided, "
                f"{len(running)} of {len(self._candidates)} candidates still in"
            )
            complete = not any(np.isnan(self.scores[name][:seen]).any() for name in running)
            if not undecided or (seen == len(self._text) and complete):
                self._record(rounds)
                return filled

    def _undecided(self, problem: Problem, seen: int) -> dict[str, list[str]]:
        limit = self._context.config.solve.time_limit_s
        solution = MipSolver().solve(problem, time_limit_s=limit)
        if solution.status == "infeasible":  # the pass solve will say so
            return {}
        so_far = {name: values[:seen] for name, values in self.scores.items()}
        confidence = self._context.config.score.race_confidence
        still = open_options(problem, solution, so_far, confidence)
        return {slot: variants for slot, variants in still.items() if len(variants) > 1}

    def _measure(self, names: Iterable[str], seen: int) -> None:
        """Fill in what `names` lack of the first `seen` sequences, a step of them at a time."""
        for start in range(0, seen, self._step):
            lacking = [n for n in names if np.isnan(self.scores[n][start])]
            if lacking:
                self._heat(lacking, start, min(start + self._step, seen))

    def _heat(self, names: list[str], start: int, stop: int) -> None:
        """Some candidates on some sequences, a unit of its own."""
        keys = [self._block_keys[name] for name in names]
        key = content_key("race", self._context.data_key, keys, start, stop)
        unit, path = f"score/heat-{key[:12]}", f"scores/heats/{key[:12]}.parquet"
        run = self._context.run
        if run.fetch(unit, key) is None:
            began = time.perf_counter()
            table = pa.table(self._scored(names, start, stop))
            seconds = time.perf_counter() - began
            files = {path: lambda file: pq.write_table(table, file)}
            run.store(unit, key, files, {"sequences": [start, stop]}, seconds)
        table = pq.read_table(run.path(path))
        for name in names:
            self.scores[name][start:stop] = table[name].to_numpy()

    def _scored(self, names: list[str], start: int, stop: int) -> Scores:
        if self._network is None:
            self._network = library_network(self._context)
        wanted: dict[Slot, list[Candidate]] = {}
        for name in names:
            candidate = self._candidates[name]
            wanted.setdefault(candidate.slot, []).append(candidate)
        ids = self._text[start:stop].to(self._network.teacher.embed.weight.device)
        batch = self._context.config.score.batch_sequences
        with self._context.progress.task("score", len(names)) as advance:
            return {
                f"{slot.id}/{label}": values
                for slot, columns in replace_one(self._network, wanted, ids, batch, advance)
                for label, values in columns.items()
            }

    def _record(self, rounds: list[dict[str, int]]) -> None:
        """What was spent of what scoring everything on the whole text would have taken."""
        spent = sum(int((~np.isnan(values)).sum()) for values in self.scores.values())
        whole = len(self.scores) * len(self._text)
        data = {"rounds": rounds, "evaluations": spent, "without_race": whole}
        key = content_key("race", self._context.data_key, self._context.config.score, rounds)
        self._context.run.store("score/race", key, data=data)
        self._context.progress.say(
            f"{spent:,} of {whole:,} evaluations, {1 - spent / whole:.0%} saved by the race"
        )


def completed(scores: Mapping[str, np.ndarray], seen: int) -> Scores:
    """The first `seen` sequences without gaps.

    A gap is the candidate's mean, times the share by which the sequence is harder than those that
    it saw, to the candidates that saw all of them (ratio estimate; Cochran, Sampling Techniques).
    """
    so_far = {name: values[:seen] for name, values in scores.items()}
    whole = [values for values in so_far.values() if not np.isnan(values).any()]
    hardness = np.mean(whole, axis=0) if whole else np.ones(seen)
    hardness = np.maximum(hardness, 1e-30)
    found = {}
    for name, values in so_far.items():
        known = ~np.isnan(values)
        ratio = values[known].mean() / hardness[known].mean()
        found[name] = np.where(known, values, ratio * hardness)
    return found
