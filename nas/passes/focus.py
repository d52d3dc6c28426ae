"""Focused scores: one-backward for all, replace-one for those that the choice hangs on.

What the replace-one losses say of the one-backward scores beside them corrects the others
(`nas.trials`): all that the solution chooses is scored for real, and what could take its place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nas.ir import Candidate, Slot
from nas.passes._context import PassContext
from nas.passes.race import MakeProblem, Scores
from nas.passes.score import (
    grouped,
    library_network,
    one_backward,
    read_scores,
    slot_key,
    store_scores,
)
from nas.passes.swaps import Swaps
from nas.run import content_key
from nas.trials import Trials, try_nearby

_EXPANSION = "scores/one_backward.parquet"


def focus(
    context: PassContext,
    candidates: Iterable[Candidate],
    block_keys: Mapping[str, str],
    make_problem: MakeProblem,
) -> Scores:
    """Per-sequence scores of every candidate: id -> KL in nats, [score_sequences].

    Those that were not run have their one-backward score times the factor expected of it. Other
    budgets or costs focus elsewhere and reuse what was run; `solve` alone takes the scores as they
    are.
    """
    run, by_slot = context.run, grouped(candidates)
    keys = {slot: slot_key(context, group, block_keys) for slot, group in by_slot.items()}
    everyone = [c for group in by_slot.values() for c in group]
    costs = make_problem({c.id: np.zeros(1) for c in everyone})
    key = content_key("focus", context.config.score, costs, list(keys.values()))
    done = "score" in run.closed or run.fetch("focus", key) is not None
    if not (done and all(run.fetch(f"score/{s.id}", keys[s]) for s in by_slot)):
        _focus(context, by_slot, block_keys, make_problem, keys, key)
    scores: Scores = {}
    for slot in by_slot:
        scores |= read_scores(run.path("scores", f"{slot.id}.parquet"), slot)
    return scores


def _focus(
    context: PassContext,
    by_slot: Mapping[Slot, list[Candidate]],
    block_keys: Mapping[str, str],
    make_problem: MakeProblem,
    keys: Mapping[Slot, str],
    key: str,
) -> None:
    everyone = [c for group in by_slot.values() for c in group]
    fast = _expansion(context, by_slot, list(keys.values()))
    means = {name: float(values.mean()) for name, values in fast.items()}
    swaps = Swaps(context, "block", everyone, block_keys, lambda: library_network(context))
    trials = try_nearby(
        make_problem(fast),
        means,
        swaps,
        most=math.ceil(context.config.score.focus_share * len(everyone)),
        time_limit_s=context.config.solve.time_limit_s,
    )
    expected = trials.means
    for slot, group in by_slot.items():
        columns = {
            c.spec.label: swaps.values[c.id]
            if c.id in trials.known
            else fast[c.id] * (expected[c.id] / max(means[c.id], 1e-30))
            for c in group
        }
        store_scores(context, slot, keys[slot], columns, 0.0)
    _record(context, trials, key)


def _expansion(
    context: PassContext, by_slot: Mapping[Slot, list[Candidate]], slot_keys: list[str]
) -> Scores:
    """One-backward scores of all candidates, a unit of no pass: other budgets reuse it."""
    key = content_key("expansion", slot_keys)
    if context.run.fetch("expansion", key) is None:
        began = time.perf_counter()
        table = pa.table({name: pa.array(v) for name, v in one_backward(context, by_slot).items()})
        seconds = time.perf_counter() - began
        files = {_EXPANSION: lambda path: pq.write_table(table, path)}
        context.run.store("expansion", key, files, None, seconds)
    table = pq.read_table(context.run.path(_EXPANSION))
    return {name: table[name].to_numpy() for name in table.column_names}


def _record(context: PassContext, trials: Trials, key: str) -> None:
    """What was run of all, round by round."""
    data = {"rounds": list(trials.rounds), "run": sorted(trials.known), "of": len(trials.names)}
    context.run.store("focus", key, data=data)
    share = len(trials.known) / len(trials.names)
    context.progress.say(
        f"{len(trials.known)} of {len(trials.names)} candidates ({share:.0%}) scored by "
        f"replace-one in {len(trials.rounds)} rounds, the others by one-backward"
    )
