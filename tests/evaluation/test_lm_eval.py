"""lm-evaluation-harness: what it is given, and what is read from its answers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from nas.errors import CapabilityError, ConfigError, PassError
from nas.evaluation import Harness, accuracy_retained
from tests.chains import tiny_chain
from tests.harness import RecordingHarness, Sample, sample
from tests.models import tiny_tokenizer

TEACHER, STUDENT = tiny_chain(seed=1), tiny_chain(seed=2)
IDS = torch.arange(12).reshape(2, 6)


def _is_teacher(model: Any) -> bool:
    return torch.allclose(model(IDS).logits, TEACHER(IDS), atol=1e-4)


def _answers(*, teacher: Sequence[Sample], student: Sequence[Sample]) -> RecordingHarness:
    return RecordingHarness(
        lambda model, _: teacher if _is_teacher(model) else student, ("piqa", "mmlu")
    )


def test_the_package_is_asked_for_with_the_command_that_adds_it() -> None:
    if importlib.util.find_spec("lm_eval"):
        pytest.skip("lm_eval is installed")
    with pytest.raises(CapabilityError, match=r"pip install -e '\.\[eval\]'"):
        Harness()


def test_a_task_that_the_harness_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(teacher=[], student=[]).install(monkeypatch)
    with pytest.raises(ConfigError, match="no task 'pica'; did you mean piqa"):
        Harness().check(["mmlu", "pica"])
    Harness().check(["mmlu", "piqa"])


def test_both_models_answer_the_same_items(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = [sample(i, acc=float(i % 4 != 0), acc_norm=1.0) for i in range(12)]
    student = [sample(i, acc=float(i % 3 != 0), acc_norm=0.0) for i in reversed(range(12))]
    harness = _answers(teacher=teacher, student=student)
    harness.install(monkeypatch)
    tokenizer = tiny_tokenizer()

    plain, normalised = Harness().compare("piqa", TEACHER, STUDENT, tokenizer, limit=12, batch=3)

    assert [(asked["tasks"], asked["limit"]) for asked in harness.asked] == [(["piqa"], 12)] * 2
    assert [asked["model"].batch_size for asked in harness.asked] == [3, 3]
    assert all(asked["model"].tokenizer is tokenizer for asked in harness.asked)
    assert (plain.task, plain.metric, plain.items) == ("piqa", "acc", 12)
    assert plain.accuracies == (0.75, pytest.approx(2 / 3))
    # the student's items are paired with the teacher's by number, not by place
    right = [i % 4 != 0 for i in range(12)], [i % 3 != 0 for i in range(12)]
    assert plain.retained == accuracy_retained(*right)
    assert (normalised.metric, normalised.accuracies) == ("acc_norm", (1.0, 0.0))


def test_filters_are_told_apart_and_shares_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [
        sample(0, acc=0.4, answer_filter="none"),
        sample(0, exact_match=1, answer_filter="strict-match"),
        sample(0, exact_match=0, answer_filter="flexible-extract"),
    ]
    _answers(teacher=items, student=items).install(monkeypatch)
    found = Harness().compare("piqa", TEACHER, STUDENT, tiny_tokenizer())
    assert [result.metric for result in found] == [
        "exact_match,strict-match",
        "exact_match,flexible-extract",
    ]
    assert [result.accuracies for result in found] == [(1.0, 1.0), (0.0, 0.0)]


def test_shares_of_one_model_alone_leave_the_metric_out(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = [sample(0, acc=1.0, acc_norm=1.0)]
    student = [sample(0, acc=0.5, acc_norm=1.0)]
    _answers(teacher=teacher, student=student).install(monkeypatch)
    (found,) = Harness().compare("piqa", TEACHER, STUDENT, tiny_tokenizer())
    assert found.metric == "acc_norm"


def test_a_task_without_right_and_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [sample(0, word_perplexity=12.5)]
    _answers(teacher=items, student=items).install(monkeypatch)
    with pytest.raises(ConfigError, match="'piqa' does not judge"):
        Harness().compare("piqa", TEACHER, STUDENT, tiny_tokenizer())


def test_what_the_harness_raises_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Sequence[Sample]:
        raise ConnectionError("no route to the hub\nand much more")

    RecordingHarness(fail, ("piqa",)).install(monkeypatch)
    with pytest.raises(PassError, match=r"cannot run 'piqa': no route to the hub \(datasets come"):
        Harness().compare("piqa", TEACHER, STUDENT, tiny_tokenizer())
