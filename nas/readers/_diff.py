"""How two runs differ: configuration, results, and the block chosen in each slot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType

from nas._tables import table
from nas._words import number
from nas.readers._runs import read_config
from nas.readers._show import summary_of
from nas.report import ModelSummary, Summary
from nas.run import RunDirectory


class Change(BaseModel):
    """One value that differs; None where a side has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    left: Any
    right: Any


class RunDiff(BaseModel):
    """`results` and `slots` stay empty unless both runs have a summary; `notes` says which lack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left: str
    right: str
    config: tuple[Change, ...]
    results: tuple[Change, ...] = ()
    slots: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


def diff_runs(left: RunDirectory, right: RunDirectory) -> RunDiff:
    """Compare two runs; raises ArtifactError where one has no configuration."""
    runs = (left, right)
    configs = [_flattened(read_config(run).model_dump(mode="json")) for run in runs]
    notes = tuple(
        f"{run.root} has no summary; `nas report {run.root}` writes it"
        for run in runs
        if not run.path("report", "summary.json").is_file()
    )
    results: tuple[Change, ...] = ()
    slots: tuple[Change, ...] = ()
    if not notes:
        summaries = [summary_of(run) for run in runs]
        results = _changes(*(_results(summary) for summary in summaries))
        slots = _changes(*({slot.id: slot.chosen for slot in s.slots} for s in summaries))
    return RunDiff(
        left=str(left.root),
        right=str(right.root),
        config=_changes(*configs),
        results=results,
        slots=slots,
        notes=notes,
    )


def diff_tables(diff: RunDiff) -> Iterable[RenderableType]:
    parts = {"configuration": diff.config, "results": diff.results, "chosen blocks": diff.slots}
    for title, changes in parts.items():
        if changes:
            rows = [(c.key, _text(c.left), _text(c.right), _relative(c)) for c in changes]
            columns = ("key", diff.left, diff.right, "change")
            yield table(title, columns, rows, right=("change",))
    if not any(parts.values()):
        yield "no difference"
    yield from (f"note: {note}" for note in diff.notes)


def _changes(left: Mapping[str, Any], right: Mapping[str, Any]) -> tuple[Change, ...]:
    keys = dict.fromkeys([*left, *right])
    return tuple(
        Change(key=key, left=left.get(key), right=right.get(key))
        for key in keys
        if left.get(key) != right.get(key)
    )


def _flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as `section.key`; lists stay whole."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flattened(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _results(summary: Summary) -> dict[str, float | None]:
    return {
        f"{model.name}.{key}": value
        for model in summary.models
        for key, value in _figures(model).items()
    }


_LANGUAGE = ("kl_nats", "perplexity", "top1_agreement", "greedy_agreement_tokens")
_EMBEDDING = ("cosine_distance", "similarity_spearman", "recall_at_10")


def _figures(model: ModelSummary) -> dict[str, float | None]:
    figures: dict[str, float | None] = {
        "params_m": model.params_m,
        "memory_mib": model.memory_mib,
        "kv_mib_per_sequence": model.kv_mib_per_sequence,
    }
    for latency in model.latency:
        under = f"{latency.scenario}." if latency.scenario else ""
        figures[f"{under}{latency.phase}_ms"] = latency.measured_median_ms
        figures[f"{under}{latency.phase}_speedup"] = latency.speedup
    if model.quality:
        for name in _LANGUAGE if model.quality.language else _EMBEDDING:
            figures[name] = getattr(model.quality, name)
    return figures


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        return number(value)
    return None if value is None else str(value)


def _relative(change: Change) -> str:
    numbers = (change.left, change.right)
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers):
        return ""
    return f"{100 * (change.right / change.left - 1):+.1f} %" if change.left else ""
