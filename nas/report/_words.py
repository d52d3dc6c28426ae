"""The result in sentences. Each claim is made only if the numbers hold it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nas.ir import Phase
from nas.report._format import (
    count,
    duration,
    fixed,
    percent,
    ratio,
    significant,
    title_of,
)
from nas.report._models import ModelSummary, Quality, RefitSummary
from nas.report.summary import Summary


@dataclass(frozen=True)
class Figure:
    """A big number, what it is, and what it is made of."""

    value: str
    label: str
    note: str


def model_title(model: ModelSummary) -> str:
    """Teacher, Student, or the baseline's name in words."""
    return title_of(model.name if model.role == "baseline" else model.role)


def figures(summary: Summary) -> tuple[Figure, ...]:
    """The headline: speed, quality, size. What was not measured is left out or said to be so."""
    found = [_speed_figure(summary, phase) for phase in summary.phases]
    quality, reference = summary.student.quality, summary.teacher_model.quality
    if quality:
        found += _quality_figures(quality, reference)
    old, new = summary.teacher_model.params_m, summary.student.params_m
    found.append(
        Figure(
            f"{significant(new)} M",
            "parameters",
            f"{percent(new / old, 0)} of {significant(old)} M",
        )
    )
    return tuple(figure for figure in found if figure)


def _speed_figure(summary: Summary, phase: Phase) -> Figure | None:
    student = summary.student.latency_of(phase)
    teacher = summary.teacher_model.latency_of(phase)
    conditions = summary.target.conditions_of(phase)
    if not (student and teacher and conditions):
        return None
    old, new, how = teacher.measured_median_ms, student.measured_median_ms, "measured"
    if old is None or new is None:
        old, new, how = teacher.predicted_ms, student.predicted_ms, "predicted"
    if old is None or new is None:
        return None
    times = f"{significant(old)} \N{RIGHTWARDS ARROW} {significant(new)} ms"
    return Figure(ratio(old / new), f"{phase} speed", f"{times}, {how}")


def conditions_in_words(summary: Summary) -> str:
    """The conditions that all latencies share, in a line."""
    c, hardware = summary.target.conditions[0], summary.target.hardware
    parts = [
        *([hardware] if hardware != c.device else []),
        c.device,
        f"{c.runtime} {c.runtime_version}",
        c.dtype,
        f"{c.threads} thread{'s' if c.threads != 1 else ''}",
        f"batch {c.batch}{_chosen_from(summary)}",
        *([] if summary.pictures else [f"{count(c.prompt_tokens)} prompt tokens"]),
    ]
    return " \N{MIDDLE DOT} ".join(parts)


def _chosen_from(summary: Summary) -> str:
    batches = summary.target.batch_losses
    return f" (chosen from {', '.join(map(str, sorted(batches)))})" if batches else ""


def verdict(summary: Summary) -> str:
    """Whether the budgets hold, and how the student stands against the baselines."""
    parts = [part for part in (_budgets(summary), _against_baselines(summary)) if part]
    return " ".join(parts)


def certificate(summary: Summary) -> str:
    """How sure the choice is."""
    solution = summary.solution
    if solution is None or solution.objective is None:
        return ""
    took = f"{solution.solver}, {duration(solution.seconds)}"
    nats = " nats" if summary.language else ""
    loss = f"summed loss {significant(solution.objective, 4)}{nats}"
    bound = "" if solution.bound is None else f", lower bound {significant(solution.bound, 4)}"
    gap = "" if solution.gap is None else f", gap {percent(solution.gap, 2)}"
    moved = solution.refinement
    if moved and moved.moved_slots:
        return (
            f"{moved.moved_slots} of {len(summary.slots)} slots away from the optimum of the sums "
            f"({took}): {loss}{bound}{gap}. Refinement moved them for the loss that the "
            f"whole network realises on the scoring text, {significant(moved.realised_kl)}{nats} "
            f"in place of {significant(moved.start_kl)}."
        )
    if solution.status == "proven":
        return f"Proven optimal for these scores and costs ({took}): {loss}{bound}{gap}."
    return f"Best found, not proven optimal ({took}): {loss}{bound}{gap}."


def certainty(summary: Summary) -> str:
    """What the summed loss is on fresh text, and how many slots would stay as they are."""
    found = summary.solution.certainty if summary.solution else None
    if found is None:
        return ""
    judged = [slot.certainty for slot in summary.slots if slot.certainty]
    sure, moved = sum(slot.certain for slot in judged), len(summary.slots) - len(judged)
    share = percent(found.confidence, 0)
    nats = " nats" if summary.language else ""
    before = (
        f"Refinement moved {moved} of {len(summary.slots)} slots. Before that, on"
        if moved
        else "On"
    )
    which = f"the {len(judged)} others" if moved else f"{len(judged)} slots"
    return (
        f"{before} fresh text the sum is {significant(found.expected)}{nats}, from "
        f"{significant(found.low)} to {significant(found.high)} with {share} confidence, of which "
        f"{significant(found.optimism, 2)} are the winner's luck with the {found.sequences} "
        f"scoring sequences. {sure} of {which} have the same block in {share} "
        "of draws of these sequences."
    )


def additivity(summary: Summary) -> str:
    """What the sum of single swaps promised against what the whole student lost."""
    promised = summary.solution.objective if summary.solution else None
    first = summary.student.quality_before or summary.student.quality
    refit = summary.student.refit
    if promised is None:
        return ""
    nats = " nats" if summary.language else ""
    if refit:
        together = (
            f"Single swaps sum to {significant(promised)}{nats}; together the blocks lose "
            f"{significant(refit.from_library_nats)} on the scoring text."
        )
        return " ".join([together, *_after_assembly(refit)])
    if first is None:
        return ""
    state = "before distillation" if summary.student.quality_before else "as delivered"
    return (
        f"Single swaps sum to {significant(promised)}{nats}; the whole student loses "
        f"{significant(first.distance)} {state}."
    )


def _after_assembly(refit: RefitSummary) -> Iterator[str]:
    if refit.coupled_nats is not None:
        yield f"Trained in pairs, they lose {significant(refit.coupled_nats)}."
    if refit.refitted_nats is not None:
        refitted = "Refitted" if refit.kept else "With a refit, which was not kept"
        yield f"{refitted}, they lose {significant(refit.refitted_nats)}."
    elif refit.coupled_nats is None:
        yield "Training in pairs gained nothing and was not kept."


def pace(summary: Summary) -> str:
    """What the machine's pace has to do with the errors of the predictions."""
    latencies = [latency for p in summary.phases if (latency := summary.student.latency_of(p))]
    parts = [f"{ratio(one.pace)} in {one.phase}" for one in latencies if one.pace]
    if not parts:
        return ""
    return (
        "The machine's pace changes: the teacher's own blocks, measured again beside the networks, "
        f"took {' and '.join(parts)} of the time that predictions rest on. "
        "At pace: the error of the prediction times that ratio."
    )


def _quality_figures(quality: Quality, reference: Quality | None) -> list[Figure]:
    found = []
    if quality.perplexity is not None:
        was = reference.perplexity if reference else None
        note = f"{fixed(was)} \N{RIGHTWARDS ARROW} " if was else ""
        found.append(
            Figure(ratio(quality.perplexity_ratio), "perplexity", note + fixed(quality.perplexity))
        )
    if quality.similarity_spearman is not None:
        recall = percent(quality.recall_at_10)
        found.append(
            Figure(
                fixed(quality.similarity_spearman, 3),
                "Spearman of similarities",
                f"with the teacher's; recall@10 {recall}",
            )
        )
    error, unit = quality.distance_stderr, _unit(quality)
    found.append(
        Figure(
            significant(quality.distance),
            f"{quality.measure} from the teacher",
            unit if error is None else f"{unit}, \N{PLUS-MINUS SIGN} {significant(error, 2)}",
        )
    )
    return found


def _budgets(summary: Summary) -> str:
    missed = [budget.name for budget in summary.budgets if budget.slack < 0]
    if not summary.budgets:
        return ""
    if missed:
        return f"Missed by the cost table: {', '.join(missed)}."
    total = len(summary.budgets)
    return "The budget is met." if total == 1 else f"All {total} budgets are met."


def _against_baselines(summary: Summary) -> str:
    mine = summary.student.quality
    rivals = [(b, b.quality) for b in summary.baselines if b.quality]
    if not mine or not rivals:
        return ""
    told = ", ".join(f"{significant(q.distance)} ({model_title(b)})" for b, q in rivals)
    better = [b for b, q in rivals if q.distance <= mine.distance]
    if better:
        names = ", ".join(model_title(b) for b in better)
        return (
            f"Not better than {names}: held-out {mine.measure} {significant(mine.distance)} "
            f"against {told}."
        )
    rivals_word = "the baseline" if len(rivals) == 1 else "every baseline"
    speed = _speed_against(summary, [b for b, _ in rivals])
    return (
        f"Nearer to the teacher than {rivals_word}{speed}: "
        f"held-out {mine.measure} {significant(mine.distance)} against {told}."
    )


def _speed_against(summary: Summary, rivals: list[ModelSummary]) -> str:
    """Whether the first phase's measured latency is at most every rival's; empty if not known."""
    phase = summary.phases[0]
    mine = summary.student.latency_of(phase)
    theirs = [model.latency_of(phase) for model in rivals]
    medians = [latency.measured_median_ms if latency else None for latency in theirs]
    if mine is None or mine.measured_median_ms is None:
        return ""
    if any(median is None or median < mine.measured_median_ms for median in medians):
        return ""
    return f" at no more measured {phase} time"


def _unit(quality: Quality) -> str:
    if not quality.language:
        return "1 - cos"
    return "nats a picture" if quality.classes else "nats a token"
