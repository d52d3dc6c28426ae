"""Evaluate: quality on held-out text, free-running generation and tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from nas.ir import Architecture
from nas.passes._context import PassContext
from nas.passes.assemble import assembled
from nas.passes.students import distilled
from nas.run import content_key, file_digest, json_writer

if TYPE_CHECKING:
    from nas.evaluation import Retained, TaskResult


class ModelQuality(BaseModel):
    """Held-out quality of one model; KL and agreement are against the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    kl_nats: float
    kl_stderr_nats: float | None
    kl_by_window_nats: tuple[float, ...]
    perplexity: float
    top1_agreement: float
    greedy_agreement_tokens: float | None = None
    greedy_length_tokens: int | None = None


Qualities = dict[str, ModelQuality]


def evaluate(
    context: PassContext, architectures: Mapping[str, Architecture], keys: Mapping[str, str]
) -> dict[str, Qualities]:
    """`before` and `after` distillation: model name -> quality. The teacher stands in both."""
    return {stage: _stage(context, stage, architectures, keys) for stage in ("before", "after")}


def _stage(
    context: PassContext,
    stage: str,
    architectures: Mapping[str, Architecture],
    keys: Mapping[str, str],
) -> Qualities:
    config = context.config.evaluate
    text = config.model_dump(exclude={"tasks", "lm_eval", "limit"})
    key = content_key("evaluate", stage, context.data_key, dict(keys), text)
    record = context.run.fetch(f"evaluate/{stage}", key)
    if record is None:
        started = time.perf_counter()
        context.progress.say(f"evaluating students {stage} distillation")
        found = _measure(context, stage, architectures)
        data = {name: quality.model_dump(mode="json") for name, quality in found.items()}
        seconds = time.perf_counter() - started
        files = {f"evaluation/{stage}.json": json_writer(data)}
        record = context.run.store(f"evaluate/{stage}", key, files, data, seconds)
    return {name: ModelQuality.model_validate(value) for name, value in record.data.items()}


def _measure(
    context: PassContext, stage: str, architectures: Mapping[str, Architecture]
) -> Qualities:
    from nas._numerics import compute_dtype
    from nas.evaluation import language_quality

    teacher = context.teacher.chain
    students = {
        name: distilled(context, name, architecture)
        if stage == "after"
        else assembled(context, name, architecture)
        for name, architecture in architectures.items()
    }
    dtype = compute_dtype(str(teacher.embed.weight.device))
    windows = context.text.evaluate
    found = language_quality(teacher, students, windows, dtype=dtype)
    free = _free_running(context, students) if stage == "after" else {}
    return {
        name: ModelQuality(
            tokens=windows.numel(),
            kl_nats=quality.kl_mean,
            kl_stderr_nats=quality.kl_standard_error,
            kl_by_window_nats=quality.kl,
            perplexity=quality.perplexity,
            top1_agreement=quality.top1_agreement,
            **free.get(name, {}),
        )
        for name, quality in found.items()
    }


def _free_running(context: PassContext, students: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Greedy continuations of held-out prompts: the teacher speaks once for all students."""
    from nas.evaluation import compare_tokens, greedy_tokens

    config = context.config.evaluate
    if not config.generations:
        return {}
    prompts = context.text.evaluate[: config.generations, : config.prompt_tokens]
    prompts = prompts.to(context.teacher.chain.embed.weight.device)
    expected = greedy_tokens(context.teacher.chain, prompts, config.generate_tokens)
    found = {}
    for name, student in students.items():
        said = greedy_tokens(student, prompts, config.generate_tokens)
        agreement = compare_tokens(expected, said)
        found[name] = {
            "greedy_agreement_tokens": agreement.mean_length,
            "greedy_length_tokens": config.generate_tokens,
        }
    return found


def evaluate_tasks(
    context: PassContext,
    architecture: Architecture,
    student_key: str,
    paths: tuple[Path, ...],
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Accuracy of teacher and student on task files, each file a unit of its own."""
    from nas.evaluation import evaluate_task

    results = []
    for path in paths:
        digest = file_digest(path) if path.is_file() else "absent"
        key = content_key("task", student_key, context.teacher_key, digest, limit)
        unit = f"evaluate/task-{path.stem}-{content_key(str(path))[:6]}"
        record = context.run.fetch(unit, key)
        if record is None:
            from nas._numerics import compute_dtype

            started = time.perf_counter()
            context.progress.say(f"evaluating {path.name}")
            models = {
                "teacher": context.teacher.chain,
                "student": distilled(context, "student", architecture),
            }
            dtype = compute_dtype(context.config.teacher.device)
            result = evaluate_task(
                path, models, context.teacher.tokenizer, limit=limit, dtype=dtype
            )
            data = _task_record(result)
            seconds = time.perf_counter() - started
            files = {f"evaluation/{unit.split('/')[1]}.json": json_writer(data)}
            record = context.run.store(unit, key, files, data, seconds)
        results.append(record.data)
    return results


def _task_record(result: TaskResult) -> dict[str, Any]:
    teacher, student = result.scores["teacher"], result.scores["student"]
    accuracies = (teacher.accuracy, student.accuracy)
    return accuracy_row(result.name, "accuracy", result.items, accuracies, student.retained)


def accuracy_row(
    name: str,
    metric: str,
    items: int,
    accuracies: tuple[float, float],
    retained: Retained | None,
) -> dict[str, Any]:
    """A task as the run records it; `accuracies`: the teacher's, the student's."""
    return {
        "name": name,
        "metric": metric,
        "examples": items,
        "teacher_accuracy": accuracies[0],
        "student_accuracy": accuracies[1],
        "retained": retained.ratio if retained else None,
        "retained_low": retained.low if retained else None,
        "retained_high": retained.high if retained else None,
    }
