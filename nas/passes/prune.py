"""Prune: most candidates go before any is trained.

Every candidate gets its closed form (a draft) and two proxies: the held-out local error, and the
one-backward score of what the draft would cost the whole network. A few candidates are then built
and scored for real; they calibrate the one-backward score, and what could still enter a solution
inside the budgets survives. `prune.json` says of each candidate what was seen and decided.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.blocks import Block
from nas.errors import PassError
from nas.ir import Architecture, BlockSpec, Candidate, Problem, Slot
from nas.meters import CostTable
from nas.passes._context import PassContext
from nas.passes.build import build
from nas.passes.draft import Drafts
from nas.passes.score import grouped, library_network, replace_one, scoring_copy
from nas.passes.solve import make_problem
from nas.pruning import Calibration, Estimate, Verdict, choose_calibration, judge_candidates
from nas.run import content_key, json_writer
from nas.sensitivity import MixedNetwork, expand

Floats = NDArray[np.floating[Any]]


def prune(
    context: PassContext, candidates: tuple[Candidate, ...], table: CostTable
) -> tuple[Candidate, ...]:
    """The candidates that are worth training, in their order; all of them where `keep` is 1.

    Where this pass is closed, other budgets are answered from what survived those of the run.
    """
    config, run = context.config.prune, context.run
    if config.keep == 1:
        return candidates
    budgets = context.config.budgets.model_dump(mode="json")
    if "prune" in run.closed:
        budgets = run.require("prune/survivors").data["budgets"]
    parts = (context.data_key, config, context.config.build, context.config.seed, table)
    key = content_key("prune", *parts, [c.id for c in candidates], budgets)
    record = run.fetch("prune/survivors", key)
    if record is None:
        started = time.perf_counter()
        rows, data = _decide(context, candidates, table)
        files = {"prune.json": json_writer({**data, "candidates": rows})}
        seconds = time.perf_counter() - started
        record = run.store("prune/survivors", key, files, {**data, "budgets": budgets}, seconds)
    kept = set(record.data["kept"])
    return tuple(c for c in candidates if c.id in kept)


def _decide(
    context: PassContext, candidates: tuple[Candidate, ...], table: CostTable
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What prune.json says: a row for each candidate, and the decision as a whole."""
    config, drafts = context.config.prune, Drafts(context)
    drafts.make(candidates)
    fast = one_backward_of_drafts(context, candidates, drafts)
    proxy = np.array([fast[c.id] for c in candidates])
    trials = _trials(context, candidates, table, proxy)
    truth = calibrate(context, trials, drafts)
    found = Calibration.fit(
        [fast[c.id] for c in trials], [truth[c.id] for c in trials], config.confidence
    )
    points = dict(zip(fast, found.predict(proxy).tolist(), strict=True)) | truth
    estimates = {
        c.id: Estimate(points[c.id], points[c.id], points[c.id])
        if c.id in truth
        else Estimate(points[c.id], points[c.id] / found.factor, points[c.id] * found.factor)
        for c in candidates
    }
    verdicts = _verdicts(context, _problem(context, table, candidates, points), estimates)
    rows = [
        {
            "candidate": c.id,
            "one_backward_nats": fast[c.id],
            "local_error": drafts.error(c),
            "trained_nats": truth.get(c.id),
            **vars(estimates[c.id]),
            **{k: v for k, v in vars(verdicts[c.id]).items() if k not in ("slot", "variant")},
        }
        for c in candidates
    ]
    data = _summary(verdicts, trials, found)
    context.progress.say(_in_words(data))
    return rows, data


def one_backward_of_drafts(
    context: PassContext, candidates: Sequence[Candidate], drafts: Drafts
) -> dict[str, float]:
    """Candidate id -> one-backward score of its draft, mean over the scoring text; a unit."""
    key = content_key(
        "one backward", context.config.prune.draws, [drafts.key(c) for c in candidates]
    )
    record = context.run.fetch("prune/one-backward", key)
    if record is not None:
        return {name: float(value) for name, value in record.data.items()}
    started, by_slot = time.perf_counter(), grouped(candidates)
    chain = scoring_copy(context.teacher.chain)
    index = {slot: k for k, slot in enumerate(chain.slot_ids)}

    def block_of(slot: Slot, spec: BlockSpec) -> Block | None:
        built = drafts(Candidate(slot=slot, spec=spec))
        return built.block if built else None

    ids = context.text.score.to(chain.device)
    with context.progress.task("prune", len(ids)) as advance:
        expansion = expand(
            MixedNetwork(chain, block_of),
            Architecture(),
            {index[slot]: [c.spec for c in group] for slot, group in by_slot.items()},
            ids,
            draws=context.config.prune.draws,
            seed=context.config.seed,
            advance=advance,
        )
    means = expansion.single().mean(axis=0).tolist()
    scores = dict(zip(expansion.names, means, strict=True))
    found = {c.id: scores[c.id] for c in candidates}
    context.run.store("prune/one-backward", key, {}, found, time.perf_counter() - started)
    return found


def calibrate(
    context: PassContext, trials: Sequence[Candidate], drafts: Drafts
) -> dict[str, float]:
    """Candidate id -> replace-one KL of the finished block; the blocks stay in the library."""
    keys = build(context, trials, drafts=drafts)
    if len(keys) < len(trials):
        raise PassError(
            "pruning is calibrated on blocks that could not be made; set prune.keep to 1, or run "
            "the same command again"
        )
    key = content_key("calibration", context.data_key, sorted(keys.values()))
    record = context.run.fetch("prune/calibration", key)
    if record is not None:
        return {name: float(value) for name, value in record.data.items()}
    started, network = time.perf_counter(), library_network(context)
    ids = context.text.score.to(network.teacher.device)
    batch, found = context.config.score.batch_sequences, dict[str, float]()
    with context.progress.task("calibrate", len(trials)) as advance:
        for slot, columns in replace_one(network, grouped(trials), ids, batch, advance):
            found |= {f"{slot.id}/{label}": float(kl.mean()) for label, kl in columns.items()}
    context.run.store("prune/calibration", key, {}, found, time.perf_counter() - started)
    return found


def _trials(
    context: PassContext, candidates: Sequence[Candidate], table: CostTable, proxy: Floats
) -> list[Candidate]:
    """The candidates to calibrate on: where the proxy taken at its word decides most closely."""
    known = dict(zip((c.id for c in candidates), proxy.tolist(), strict=True))
    exact = {name: Estimate(value, value, value) for name, value in known.items()}
    verdicts = _verdicts(context, _problem(context, table, candidates, known), exact)
    regret = np.array([verdicts[c.id].regret_nats for c in candidates])
    count = context.config.prune.calibrate
    return [candidates[i] for i in choose_calibration(proxy, regret, count)]


def _problem(
    context: PassContext,
    table: CostTable,
    candidates: Sequence[Candidate],
    losses: Mapping[str, float],
) -> Problem:
    scores = {name: np.array([value]) for name, value in losses.items()}
    return make_problem(context, table, candidates, scores)


def _verdicts(
    context: PassContext, problem: Problem, estimates: Mapping[str, Estimate]
) -> dict[str, Verdict]:
    """Candidate id -> verdict."""
    config = context.config.prune
    found = judge_candidates(
        problem,
        estimates,
        keep=config.keep,
        reach=config.reach,
        cells=config.cells,
        time_limit_s=context.config.solve.time_limit_s,
    )
    return {f"{v.slot}/{v.variant}": v for v in found}


def _summary(
    verdicts: Mapping[str, Verdict], trials: Sequence[Candidate], found: Calibration
) -> dict[str, Any]:
    reasons = Counter(v.reason.split()[0].rstrip(":") for v in verdicts.values() if not v.kept)
    return {
        "kept": [name for name, verdict in verdicts.items() if verdict.kept],
        "of": len(verdicts),
        "gone": dict(reasons),
        "trials": [c.id for c in trials],
        "factor": found.factor,
    }


def _in_words(data: Mapping[str, Any]) -> str:
    gone = ", ".join(f"{count} {reason}" for reason, count in data["gone"].items()) or "none gone"
    return (
        f"kept {len(data['kept'])} of {data['of']} candidates ({gone}); "
        f"after {len(data['trials'])} trials their losses are known within a factor of "
        f"{data['factor']:.2f}"
    )
