"""Evaluate, on tasks of lm-evaluation-harness: each task, or group of tasks, is a unit."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas.ir import Architecture
from nas.passes._context import PassContext
from nas.passes.evaluate import accuracy_row, decoder
from nas.passes.students import distilled
from nas.run import content_key, json_writer

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class _Unit:
    """A task that is to be evaluated, and the record that it will have."""

    task: str
    name: str
    key: str


def evaluate_harness(context: PassContext, architecture: Architecture, student_key: str) -> Rows:
    """Accuracy of teacher and student on the tasks of `evaluate.lm_eval`, a row a metric.

    Raises CapabilityError without the package, and as `Harness.compare`.
    """
    limit = context.config.evaluate.limit
    found: dict[str, Rows] = {}
    missing = []
    for task in dict.fromkeys(context.config.evaluate.lm_eval):
        key = content_key("lm_eval", student_key, context.teacher_key, task, limit)
        unit = _Unit(task, _unit_name(task), key)
        record = context.run.fetch(unit.name, key)
        if record is None:
            missing.append(unit)
            found[task] = []  # keeps the order of the configuration
        else:
            found[task] = record.data
    if missing:
        found |= _evaluate(context, architecture, missing)
    return [row for rows in found.values() for row in rows]


def _evaluate(
    context: PassContext, architecture: Architecture, units: Sequence[_Unit]
) -> dict[str, Rows]:
    teacher, limit = context.teacher, context.config.evaluate.limit
    student = distilled(context, "student", architecture)
    found = {}
    for unit in units:
        started = time.perf_counter()
        context.progress.say(f"evaluating {unit.task} with lm-evaluation-harness")
        results = context.harness.compare(
            unit.task, decoder(teacher.chain), decoder(student), teacher.tokenizer, limit=limit
        )
        rows = [accuracy_row(r.task, r.metric, r.items, r.accuracies, r.retained) for r in results]
        files = {f"evaluation/{unit.name.split('/')[1]}.json": json_writer(rows)}
        context.run.store(unit.name, unit.key, files, rows, time.perf_counter() - started)
        found[unit.task] = rows
    return found


def require_known(context: PassContext) -> None:
    """Raise ConfigError for a task of `evaluate.lm_eval` that the harness does not know, and
    CapabilityError without the package; tasks that were evaluated before are known."""
    tasks = context.config.evaluate.lm_eval
    new = [task for task in tasks if context.run.record(_unit_name(task)) is None]
    if new:
        context.harness.check(new)


def _unit_name(task: str) -> str:
    """Unlike for unlike tasks, without the characters that some tasks' names have."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", task)
    return f"evaluate/lm_eval-{readable}-{content_key(task)[:6]}"
