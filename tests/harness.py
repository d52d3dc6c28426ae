"""A stand-in for lm-evaluation-harness that records what it is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

Sample = dict[str, Any]


@dataclass
class RecordingHarness:
    """`answer(model, task)` gives the samples that `simple_evaluate` returns for a task."""

    answer: Callable[[Any, str], Sequence[Sample]]
    tasks: tuple[str, ...]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def simple_evaluate(self, **settings: Any) -> dict[str, Any]:
        self.asked.append(settings)
        model = settings["model"].pretrained
        return {"samples": {task: self.answer(model, task) for task in settings["tasks"]}}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it where the package's modules are looked for."""
        manager = SimpleNamespace(all_tasks=list(self.tasks))
        modules = {
            "lm_eval": SimpleNamespace(simple_evaluate=self.simple_evaluate),
            "lm_eval.tasks": SimpleNamespace(TaskManager=lambda: manager),
            "lm_eval.models.huggingface": SimpleNamespace(HFLM=SimpleNamespace),
        }
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)


def sample(item: int, *, answer_filter: str = "none", **metrics: float) -> Sample:
    """One item as the harness logs it; `metrics` such as `acc=1.0`."""
    return {"doc_id": item, "filter": answer_filter, "metrics": list(metrics), **metrics}
