"""The result as tables for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from nas.report._format import NOTHING, fixed, percent, ratio, significant
from nas.report._models import ModelSummary, PhaseLatency
from nas.report._words import model_title
from nas.report.summary import Summary

_LANGUAGE = ("KL nats", "perplexity", "top-1")
_EMBEDDING = ("1 - cos", "Spearman", "recall@10")
_CLASSES = ("KL nats", "top-1")


def summary_table(summary: Summary) -> Table:
    """Teacher, student and baselines: speed, size and nearness to the teacher."""
    table = Table(title=Text(f"{summary.name}: student against teacher"), title_justify="left")
    table.add_column("model")
    phases = [phase for phase in summary.phases if _has(summary, phase)]
    for phase in phases:
        rate = "pictures/s" if summary.pictures else f"{phase} tok/s"
        table.add_column(rate, justify="right")
        table.add_column("speed-up", justify="right")
    measures: tuple[str, ...] = _LANGUAGE if summary.language else _EMBEDDING
    measures = _CLASSES if summary.pictures and summary.language else measures
    for column in ("params M", "memory MiB", *measures):
        table.add_column(column, justify="right")
    for model in summary.models:
        speeds = [model.latency_of(phase) for phase in phases]
        table.add_row(
            Text(model_title(model), style="bold" if model.role == "student" else ""),
            *(text for speed in speeds for text in _speed(model, speed)),
            fixed(model.params_m, 1),
            fixed(model.memory_mib, 1),
            *_quality(model, len(measures)),
        )
    return table


def scenario_table(summary: Summary) -> Table:
    """What each scenario takes, model by model: predicted, measured, speed-up."""
    table = Table(title=Text("scenarios"), title_justify="left")
    for column in ("scenario", "batch", "prompt", "phase", "model"):
        table.add_column(column, justify="right" if column in ("batch", "prompt") else "left")
    for column in ("predicted ms", "measured ms", "speed-up", "tok/s"):
        table.add_column(column, justify="right")
    for name, scenario in summary.target.scenarios.items():
        for conditions in scenario.conditions:
            for model in summary.models:
                latency = model.latency_of(conditions.phase, name)
                if latency is None:
                    continue
                rate, speedup = _speed(model, latency)
                table.add_row(
                    Text(name),
                    str(conditions.batch),
                    str(conditions.prompt_tokens),
                    conditions.phase,
                    Text(model_title(model), style="bold" if model.role == "student" else ""),
                    significant(latency.predicted_ms, 4),
                    significant(latency.measured_median_ms, 4),
                    speedup if latency.measured_median_ms else NOTHING,
                    rate,
                )
    return table


def budget_table(summary: Summary) -> Table:
    """Limit, value, slack and price of every budget."""
    table = Table(title=Text("budgets"), title_justify="left")
    table.add_column("budget")
    for column in ("limit", "student", "slack", "unit"):
        table.add_column(column, justify="left" if column == "unit" else "right")
    table.add_column("price")
    for budget in summary.budgets:
        sign = (
            "\N{LESS-THAN OR EQUAL TO}" if budget.sense == "max" else "\N{GREATER-THAN OR EQUAL TO}"
        )
        table.add_row(
            Text(budget.name),
            f"{sign} {significant(budget.limit, 4)}",
            significant(budget.value, 4),
            Text(significant(budget.slack, 3), style="" if budget.slack >= 0 else "bold red"),
            Text(budget.unit),
            Text(budget.dual_in_words),
        )
    return table


def _has(summary: Summary, phase: str) -> bool:
    return any(
        (latency.phase, latency.scenario) == (phase, None) and latency.measured_median_ms
        for model in summary.models
        for latency in model.latency
    )


def _speed(model: ModelSummary, latency: PhaseLatency | None) -> tuple[str, str]:
    if latency is None:
        return NOTHING, NOTHING
    speedup = ratio(1.0) if model.role == "teacher" else ratio(latency.speedup)
    rate = latency.tokens_per_s
    return fixed(rate, 0 if rate is None or rate >= 100 else 1), speedup


def _quality(model: ModelSummary, columns: int) -> tuple[str, ...]:
    quality = model.quality
    if quality is None:
        return (NOTHING,) * columns
    distance = "0" if model.role == "teacher" else fixed(quality.distance, 3)
    if quality.classes:
        return distance, percent(quality.top1_agreement)
    if quality.language:
        return distance, fixed(quality.perplexity), percent(quality.top1_agreement)
    return distance, fixed(quality.similarity_spearman, 3), percent(quality.recall_at_10)
