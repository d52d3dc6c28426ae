"""Tasks of lm-evaluation-harness as units of a run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from nas.errors import CapabilityError
from nas.passes import Artefacts
from tests.harness import RecordingHarness, Sample, sample

Make = Callable[..., Artefacts]


def _by_weights(model: Any, task: str) -> Sequence[Sample]:
    """Teacher and student differ in how many weights they have."""
    whole = sum(p.numel() for p in model.parameters()) > 27_000
    return [sample(i, acc=float(whole or i < 3)) for i in range({"piqa": 4, "boolq": 6}[task])]


def _run(artefacts: Make, *tasks: str) -> Artefacts:
    return artefacts(evaluate={"generations": 0, "lm_eval": tasks, "limit": 6})


def test_each_task_is_a_row_and_a_unit(artefacts: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = RecordingHarness(_by_weights, ("piqa", "boolq"))
    harness.install(monkeypatch)

    (row,) = _run(artefacts, "piqa").tasks
    assert (row["name"], row["metric"], row["examples"]) == ("piqa", "acc", 4)
    assert (row["teacher_accuracy"], row["student_accuracy"]) == (1.0, 0.75)
    assert row["retained_low"] <= row["retained"] == 0.75 <= row["retained_high"]
    assert all(asked["limit"] == 6 for asked in harness.asked)

    harness.asked.clear()
    rows = _run(artefacts, "boolq", "piqa").tasks
    assert [found["name"] for found in rows] == ["boolq", "piqa"]
    assert rows[1] == row
    assert [asked["tasks"] for asked in harness.asked] == [["boolq"]] * 2  # piqa is finished


def test_a_finished_task_needs_no_package(artefacts: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as installed:
        RecordingHarness(_by_weights, ("piqa",)).install(installed)
        rows = _run(artefacts, "piqa").tasks
    if importlib.util.find_spec("lm_eval") is None:
        with pytest.raises(CapabilityError):
            _ = _run(artefacts, "boolq").tasks
    assert _run(artefacts, "piqa").tasks == rows


def test_what_files_are_judged_by_changes_no_held_out_quality(artefacts: Make) -> None:
    found = artefacts(evaluate={"generations": 0}).quality
    other = {"pairs": ["a.jsonl"], "images": ["b.npz"], "tasks": ["c.jsonl"], "limit": 3}
    again = artefacts(evaluate={"generations": 0, **other})
    assert again.quality == found
    assert "evaluate" not in again.context.run.tally.done
