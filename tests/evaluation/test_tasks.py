"""Task files: reading, scoring, and the interval of what is retained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.chain import DecoderChain, greedy_tokens
from nas.errors import ConfigError, PassError
from nas.evaluation import (
    MultipleChoice,
    accuracy_retained,
    evaluate_task,
    read_items,
)
from nas.evaluation._likelihood import encode_pairs, likelihoods
from nas.ir import Architecture
from tests.chains import tiny_chain, tiny_shape
from tests.models import tiny_tokenizer

_CHOICE = {"query": "Question: Why?", "choices": ["so", "for no reason"], "gold": 1}


def _write(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.fixture
def teacher() -> DecoderChain:
    return tiny_chain(architecture=Architecture())


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (_CHOICE,
         [("Question: Why?\nAnswer:", " so"), ("Question: Why?\nAnswer:", " for no reason")]),
        ({**_CHOICE, "query": "Question: Why?\n", "choices": ["a", "b"]},
         [("Question: Why?\nAnswer:", " a"), ("Question: Why?\nAnswer:", " b")]),
        ({**_CHOICE, "query": "The cat "}, [("The cat", " so"), ("The cat", " for no reason")]),
        ({**_CHOICE, "query": "Line\n"}, [("Line\n", "so"), ("Line\n", "for no reason")]),
        ({"context": "one two", "continuation": "three"}, [("one two", " three")]),
        ({"context": "", "continuation": "three"}, [("", "three")]),
    ],
)  # fmt: skip
def test_context_and_continuation_meet_at_one_space(
    tmp_path: Path, item: Any, expected: list[tuple[str, str]]
) -> None:
    assert read_items(_write(tmp_path / "t.jsonl", item))[0].pairs() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"query": "q"', r"line 2: not JSON"),
        ("[1]", r"line 2: .*expected query, choices and gold"),
        ('{"query": "q", "choices": ["a", "b"], "gold": 2}', r"line 2: .*gold is 2.*2 choices"),
        ('{"query": "q", "choices": ["a"], "gold": 0}', r"line 2: choices: "),
        ('{"query": "q", "choices": ["a", " "], "gold": 0}', r"line 2: .*a choice is empty"),
        ('{"choices": ["a", "b"], "gold": 0}', r"line 2: query: Field required"),
        ('{"context": "c", "continuation": "d"}', r"line 2: not of the kind"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(_CHOICE) + "\n" + text + "\n")
    with pytest.raises(ConfigError, match=message):
        read_items(path)
    assert len(read_items(path, limit=1)) == 1


def test_files_without_items_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(ConfigError, match="no items"):
        read_items(tmp_path / "empty.jsonl")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_items(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("batch", [1, 3])
def test_likelihood_equals_plain_torch(teacher: DecoderChain, batch: int) -> None:
    pairs = [("ab", " cd"), ("a longer context", " x"), ("", "start")]
    requests = encode_pairs(tiny_tokenizer(), pairs, 128)
    found = likelihoods(teacher, requests, batch)
    for request, likelihood in zip(requests, found, strict=True):
        ids = torch.tensor([request.ids])
        log_q = teacher(ids).log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])
        assert likelihood.total == pytest.approx(float(log_q[-request.scored :].sum()), abs=1e-4)
    assert [request.scored for request in requests] == [3, 2, 5]
    assert requests[2].ids[0] == tiny_tokenizer().bos_token_id


class Letters:
    """A token a letter, a = 10; it opens no text by itself."""

    bos_token_id: int | None = 0
    eos_token_id: int | None = 5

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) - ord("a") + 10 for letter in text]


def test_a_text_without_context_begins_with_the_first_token_there_is() -> None:
    tokenizer = Letters()
    assert encode_pairs(tokenizer, [("", "bc")], 8)[0].ids == (0, 11, 12)
    tokenizer.bos_token_id = None
    assert encode_pairs(tokenizer, [("", "bc")], 8)[0].ids == (5, 11, 12)
    tokenizer.eos_token_id = None
    with pytest.raises(ConfigError, match="no token to begin with"):
        encode_pairs(tokenizer, [("", "bc")], 8)


def test_long_requests_are_cut_on_the_left() -> None:
    request = encode_pairs(tiny_tokenizer(), [("x" * 50, " yz")], 8)[0]
    assert len(request.ids) == 9
    assert request.scored == 3


def test_multiple_choice_is_judged_by_likelihood(tmp_path: Path, teacher: DecoderChain) -> None:
    tokenizer = tiny_tokenizer()
    items = [
        MultipleChoice(query=f"number {i}", choices=("one", "twenty two", "x"), gold=i % 3)
        for i in range(9)
    ]
    path = _write(tmp_path / "numbers.jsonl", *(item.model_dump() for item in items))
    models = {"student": tiny_chain(seed=4), "teacher": teacher}
    result = evaluate_task(path, models, tokenizer, batch=4)
    assert (result.name, result.kind, result.items) == ("numbers", "multiple_choice", 9)
    for name, chain in models.items():
        right, normalised = _judged_alone(chain, tokenizer, items)
        assert result.scores[name].right == right
        assert result.scores[name].right_normalised == normalised
    score = result.scores["student"]
    assert score.retained == accuracy_retained(result.scores["teacher"].right, score.right)
    assert result.scores["teacher"].retained is None


def _judged_alone(
    chain: DecoderChain, tokenizer: Any, items: list[MultipleChoice]
) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    right, normalised = [], []
    for item in items:
        totals = []
        for context, continuation in item.pairs():
            start, end = (tokenizer(text).input_ids for text in (context, continuation))
            log_q = chain(torch.tensor([start + end])).log_softmax(-1)[0]
            totals.append(sum(float(log_q[len(start) - 1 + i, t]) for i, t in enumerate(end)))
        shares = [total / len(c) for total, c in zip(totals, item.choices, strict=True)]
        right.append(int(np.argmax(totals)) == item.gold)
        normalised.append(int(np.argmax(shares)) == item.gold)
    return tuple(right), tuple(normalised)


def test_cloze_wants_the_greedy_continuation(tmp_path: Path) -> None:
    tokenizer, chain = tiny_tokenizer(), tiny_chain(tiny_shape(tied_embeddings=False))
    chain.head.weight[94:] = 0  # only printable characters are ever the likeliest
    context = "tell me\n"
    said = tokenizer.decode(greedy_tokens(chain, torch.tensor([tokenizer.encode(context)]), 4)[0])
    path = _write(
        tmp_path / "cloze.jsonl",
        {"context": context, "continuation": said},
        {"context": context, "continuation": said[:-1] + chr(ord(said[-1]) ^ 1)},
    )
    models = {"teacher": chain, "student": tiny_chain(seed=5)}
    result = evaluate_task(path, models, tokenizer)
    assert result.kind == "cloze"
    assert result.scores["teacher"].right == (True, False)
    assert result.scores["teacher"].accuracy == 0.5
    assert result.scores["teacher"].accuracy_normalised is None
    assert result.scores["student"].right == (False, False)


def test_task_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="no model"):
        evaluate_task(_write(tmp_path / "t.jsonl", _CHOICE), {}, tiny_tokenizer())


def test_interval_is_that_of_a_bootstrap_over_items() -> None:
    random = np.random.default_rng(1)
    teacher = random.random(200) < 0.7
    student = np.where(random.random(200) < 0.85, teacher, random.random(200) < 0.5)
    found = accuracy_retained(teacher.tolist(), student.tolist())
    assert found is not None
    draws = random.integers(0, 200, (4000, 200))
    ratios = student[draws].sum(1) / teacher[draws].sum(1)
    assert found.ratio == student.sum() / teacher.sum()
    assert found.low == pytest.approx(np.quantile(ratios, 0.025), abs=0.01)
    assert found.high == pytest.approx(np.quantile(ratios, 0.975), abs=0.01)


def test_equal_answers_are_retained_for_certain() -> None:
    same = accuracy_retained([True, False, True], [True, False, True])
    assert same is not None
    assert (same.low, same.ratio, same.high) == (1, 1, 1)
    assert accuracy_retained([False, False], [True, False]) is None
