"""Prune: most candidates go before any is trained.

Every candidate gets its closed form (a draft) and two proxies: the held-out local error, and the
one-backward score of what the draft would cost the whole network. The drafts that the choice hangs
on are then run in the network, which corrects the proxies of the others (`nas.trials`); a few of
them are finished, which says what training changes. What could still enter a solution inside the
budgets survives. `prune.json` says of each candidate what was seen and decided.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.blocks import Block
from nas.errors import PassError
from nas.ir import Architecture, BlockSpec, Candidate, Problem, Slot
from nas.meters import CostTable
from nas.passes._context import PassContext
from nas.passes.build import build
from nas.passes.distill_blocks import share_left
from nas.passes.draft import Drafts
from nas.passes.score import grouped, library_network, scoring_copy
from nas.passes.solve import make_problem
from nas.passes.swaps import Swaps
from nas.pruning import (
    Calibration,
    Estimate,
    Line,
    RungOption,
    SlotOutlook,
    Verdict,
    choose_calibration,
    fit_lines,
    judge_candidates,
    solutions_about,
)
from nas.run import content_key, json_writer
from nas.sensitivity import MixedNetwork, expand
from nas.trials import Trials, try_nearby

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
    parts = (context.goal_key, config, context.config.build, context.config.seed, table)
    key = content_key("prune", *parts, [c.id for c in candidates], budgets)
    record = run.fetch("prune/survivors", key)
    if record is None:
        started = time.perf_counter()
        rows, data, outlooks = _decide(context, candidates, table)
        files = {"prune.json": json_writer({**data, "candidates": rows})}
        seconds = time.perf_counter() - started
        known = {**data, "budgets": budgets, "outlooks": outlooks}
        record = run.store("prune/survivors", key, files, known, seconds)
    kept = set(record.data["kept"])
    return tuple(c for c in candidates if c.id in kept)


def outlooks(context: PassContext, spared: Iterable[Candidate] = ()) -> dict[str, SlotOutlook]:
    """Slot -> what its survivors are judged by while they train, but for those `spared`; nothing
    where training has no rungs."""
    if context.config.build.rungs == 1 or context.config.prune.keep == 1:
        return {}
    kept: dict[str, list[str]] = {}
    for candidate in spared:
        kept.setdefault(candidate.slot.id, []).append(candidate.spec.label)
    known = context.run.require("prune/survivors").data.get("outlooks", {})
    found = {slot: SlotOutlook.model_validate(outlook) for slot, outlook in known.items()}
    return {
        slot: outlook.model_copy(update={"spared": tuple(sorted(kept.get(slot, ())))})
        for slot, outlook in found.items()
    }


def _decide(
    context: PassContext, candidates: tuple[Candidate, ...], table: CostTable
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """What prune.json says: a row for each candidate, and the decision as a whole; then what the
    survivors are judged by while they train."""
    drafts = Drafts(context)
    drafts.make(candidates)
    fast = one_backward_of_drafts(context, candidates, drafts)
    tried = _try_drafts(context, candidates, table, fast, drafts)
    finished = _finish(context, candidates, table, tried, drafts)
    training = _what_training_changes(context, tried, finished)
    estimates = _estimates(context, tried, training) | {
        name: Estimate(value, value, value) for name, value in finished.items()
    }
    points = {name: estimate.point for name, estimate in estimates.items()}
    verdicts = _verdicts(context, _problem(context, table, candidates, points), estimates)
    rows = [
        {
            "candidate": c.id,
            "one_backward_nats": fast[c.id],
            "local_error": drafts.error(c),
            "draft_nats": tried.known.get(c.id),
            "trained_nats": finished.get(c.id),
            **vars(estimates[c.id]),
            **{k: v for k, v in vars(verdicts[c.id]).items() if k not in ("slot", "variant")},
        }
        for c in candidates
    ]
    data = _summary(verdicts, tried, finished, training)
    context.progress.say(_in_words(data))
    survivors = [c for c in candidates if verdicts[c.id].kept]
    return rows, data, _outlooks(context, table, survivors, tried, finished, training, estimates)


def one_backward_of_drafts(
    context: PassContext, candidates: Sequence[Candidate], drafts: Drafts
) -> dict[str, float]:
    """Candidate id -> one-backward score of its draft, mean over the scoring text; a unit."""
    made = [drafts.key(c) for c in candidates]
    key = content_key("one backward", context.goal_key, context.config.prune.draws, made)
    record = context.run.fetch("prune/one-backward", key)
    if record is not None:
        return {name: float(value) for name, value in record.data.items()}
    started, by_slot = time.perf_counter(), grouped(candidates)
    network = _draft_network(context, drafts)
    index = {slot: k for k, slot in enumerate(network.teacher.slot_ids)}
    ids = context.text.score.to(network.teacher.device)
    with context.progress.task("prune", len(ids)) as advance:
        expansion = expand(
            network,
            Architecture(),
            {index[slot]: [c.spec for c in group] for slot, group in by_slot.items()},
            ids,
            draws=context.config.prune.draws,
            seed=context.config.seed,
            advance=advance,
            folder=context.run.root,
        )
    means = expansion.single().mean(axis=0).tolist()
    scores = dict(zip(expansion.names, means, strict=True))
    found = {c.id: scores[c.id] for c in candidates}
    context.run.store("prune/one-backward", key, {}, found, time.perf_counter() - started)
    return found


def _try_drafts(
    context: PassContext,
    candidates: Sequence[Candidate],
    table: CostTable,
    fast: Mapping[str, float],
    drafts: Drafts,
) -> Trials:
    """Run the drafts that the choice hangs on; what to believe of all."""
    config = context.config.prune
    keys = {c.id: drafts.key(c) for c in candidates}
    swaps = Swaps(context, "draft", candidates, keys, lambda: _draft_network(context, drafts))
    return try_nearby(
        _problem(context, table, candidates, fast),
        fast,
        swaps,
        most=math.ceil(config.trials * len(candidates)),
        reach=config.reach,
        time_limit_s=context.config.solve.time_limit_s,
    )


def _finish(
    context: PassContext,
    candidates: Sequence[Candidate],
    table: CostTable,
    tried: Trials,
    drafts: Drafts,
) -> dict[str, float]:
    """Candidate id -> replace-one KL of finished blocks, which stay in the library; nothing where
    training is off. They are spread over the losses of the drafts that were run (of all, where
    those are too few), each where the choice is closest."""
    if context.config.build.epochs == 0:
        return {}
    means = tried.means
    exact = {name: Estimate(value, value, value) for name, value in means.items()}
    verdicts = _verdicts(context, _problem(context, table, candidates, means), exact)
    count = context.config.prune.calibrate
    pool = [c for c in candidates if c.id in tried.known or len(tried.known) < count]
    losses = np.array([means[c.id] for c in pool])
    regret = np.array([verdicts[c.id].regret_nats for c in pool])
    trials = [pool[i] for i in choose_calibration(losses, regret, count)]
    keys = build(context, trials, drafts=drafts, curves=True)
    if len(keys) < len(trials):
        raise PassError(
            "pruning is calibrated on blocks that could not be made; set prune.keep to 1, or run "
            "the same command again"
        )
    swaps = Swaps(context, "block", trials, keys, lambda: library_network(context))
    return swaps([c.id for c in trials])


def _what_training_changes(
    context: PassContext, tried: Trials, finished: Mapping[str, float]
) -> Calibration:
    """From the loss of a draft to that of the finished block."""
    if len(finished) < 4:
        return Calibration(scale=1.0, power=1.0, factor=1.0)
    means = tried.means
    before = [means[name] for name in finished]
    return Calibration.fit(before, list(finished.values()), context.config.prune.confidence)


def _estimates(context: PassContext, tried: Trials, training: Calibration) -> dict[str, Estimate]:
    """Candidate id -> the loss to expect of the finished block."""
    point, low, high = (
        training.predict(np.array(losses)).tolist() for losses in _draft_losses(context, tried)
    )
    factor = training.factor
    return {
        name: Estimate(p, min(p, lo) / factor, max(p, hi) * factor)
        for name, p, lo, hi in zip(tried.names, point, low, high, strict=True)
    }


def _draft_losses(context: PassContext, tried: Trials) -> tuple[list[float], ...]:
    """Of all drafts: the loss to expect, and the ends of its interval."""
    belief, confidence = tried.belief, context.config.prune.confidence
    deviations = NormalDist().inv_cdf(0.5 + confidence / 2)
    ends = (belief.quantile(-deviations), belief.quantile(deviations))
    return tuple(losses.tolist() for losses in (belief.mean, *ends))


def _outlooks(
    context: PassContext,
    table: CostTable,
    survivors: Sequence[Candidate],
    tried: Trials,
    finished: Mapping[str, float],
    training: Calibration,
    estimates: Mapping[str, Estimate],
) -> dict[str, Any]:
    """Slot -> SlotOutlook as JSON; nothing where training has no rungs."""
    if context.config.build.rungs == 1 or not finished:
        return {}
    points = {c.id: estimates[c.id].point for c in survivors}
    problem = _problem(context, table, survivors, points)
    limit = context.config.solve.time_limit_s
    _, prices, gap = solutions_about(problem, context.config.prune.reach, limit)
    costs = sorted({cost for price in prices for cost in price})
    drafts = dict(zip(tried.names, zip(*_draft_losses(context, tried), strict=True), strict=True))
    lines = _lines(context, tried, finished)
    return {
        slot: SlotOutlook(
            options=tuple(
                RungOption(
                    variant=option.variant,
                    costs={cost: option.costs[cost] for cost in costs},
                    estimate=_ends(estimates.get(name := f"{slot}/{option.variant}")),
                    draft=None if name in finished else drafts.get(name),
                )
                for option in options
            ),
            prices=tuple(dict(price) for price in prices),
            gap=gap,
            factor=training.factor,
            lines=lines,
        ).model_dump(mode="json")
        for slot, options in problem.slots.items()
        if len(options) > 1
    }


def _ends(estimate: Estimate | None) -> tuple[float, float, float]:
    """Point and ends; the teacher's own block, of which there is no estimate, loses nothing."""
    return (0.0, 0.0, 0.0) if estimate is None else (estimate.point, estimate.low, estimate.high)


def _lines(context: PassContext, tried: Trials, finished: Mapping[str, float]) -> tuple[Line, ...]:
    """What the errors of the trials at each rung said of the losses they ended with."""
    means = tried.means
    drafts, left, truth = list[float](), list[list[float]](), list[float]()
    for name, loss in finished.items():
        known = context.run.require(f"build/{name}").data
        if known.get("rung_errors"):
            drafts.append(means[name])
            left.append([share_left(e, known["initial_error"]) for e in known["rung_errors"]])
            truth.append(loss)
    return fit_lines(drafts, left, truth, context.config.prune.confidence)


def _draft_network(context: PassContext, drafts: Drafts) -> MixedNetwork:
    """The teacher with drafts in its slots."""

    def block_of(slot: Slot, spec: BlockSpec) -> Block | None:
        candidate = Candidate(slot=slot, spec=spec)
        if (built := drafts(candidate)) is None:
            raise PassError(f"the draft of {candidate.id} is gone; the same command makes it again")
        return built.block

    chain = scoring_copy(context.teacher.chain)
    return MixedNetwork(chain, block_of, context.objective(chain))


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
    verdicts: Mapping[str, Verdict],
    tried: Trials,
    finished: Mapping[str, float],
    training: Calibration,
) -> dict[str, Any]:
    reasons = Counter(v.reason.split()[0].rstrip(":") for v in verdicts.values() if not v.kept)
    rest = [s for s in tried.belief.spread.tolist() if s > 0]
    return {
        "kept": [name for name, verdict in verdicts.items() if verdict.kept],
        "of": len(verdicts),
        "gone": dict(reasons),
        "tried": sorted(tried.known),
        "rounds": list(tried.rounds),
        "trials": sorted(finished),
        "factor": training.factor,
        "typical_factor_of_others": math.exp(float(np.median(rest))) if rest else 1.0,
    }


def _in_words(data: Mapping[str, Any]) -> str:
    gone = ", ".join(f"{count} {reason}" for reason, count in data["gone"].items()) or "none gone"
    return (
        f"kept {len(data['kept'])} of {data['of']} candidates ({gone}); {len(data['tried'])} "
        f"drafts were run in {len(data['rounds'])} rounds, the losses of the others are known "
        f"within a factor of about {data['typical_factor_of_others']:.2f}"
    )
