"""The split: parts never overlap, the last tenth is held out, equal seeds give equal data."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from nas.config import DataConfig, FileText, JsonlText, PythonDocsText, TeacherSamplesText
from nas.data import Split, TextData, load_text_data
from nas.data._load import _windows
from nas.data._sampling import _draw, continued
from nas.data._split import cut
from nas.data._stream import token_stream
from nas.errors import ConfigError
from nas.teachers import Teacher
from tests.models import tiny_tokenizer

WORD = 8


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """1,000 words of eight bytes, each its own number: 8,000 tokens whose place can be read off."""
    path = tmp_path / "numbered.txt"
    path.write_text("".join(f"{i:07d} " for i in range(1000)))
    return path


def _data(path: Path, **rest: Any) -> DataConfig:
    settings = {"sequence_length": 4 * WORD, "score_sequences": 5, **rest}
    return DataConfig(sources=(FileText(path=path),), **settings)


def _words(windows: Tensor) -> list[int]:
    text = tiny_tokenizer().decode(windows.flatten())
    return [int(word) for word in text.split()]


def test_a_single_file_is_cut_in_order(numbered: Path, tiny_teacher: Teacher) -> None:
    data = load_text_data(_data(numbered), tiny_teacher, seed=0)
    assert _words(data.evaluate) == list(range(900, 1000))
    assert _words(data.score) == list(range(880, 900))
    assert sorted(_words(data.train)) == list(range(880))
    assert _words(data.train) != sorted(_words(data.train))
    assert all(part.dtype == torch.int64 for part in (data.train, data.score, data.evaluate))
    split = data.split
    assert (split.train.start, split.train.stop) == (0, 7040)
    assert (split.score.start, split.score.stop) == (7040, 7200)
    assert (split.evaluate.start, split.evaluate.stop) == (7200, 8000)
    assert split.stream_tokens == split.sources[0].tokens == 8000
    assert split.sources[0].sha256 == hashlib.sha256(numbered.read_bytes() + b"\0").hexdigest()
    assert Split.model_validate_json(split.model_dump_json()) == split


def test_limits(numbered: Path, tiny_teacher: Teacher) -> None:
    config = _data(numbered, evaluate_tokens=100, train_tokens=1000)
    data = load_text_data(config, tiny_teacher, seed=0)
    assert _words(data.evaluate) == list(range(900, 912))
    assert data.train.shape == (31, 32)
    assert set(_words(data.train)) < set(range(880))
    longer = load_text_data(_data(numbered, train_tokens=2000), tiny_teacher, seed=0)
    assert torch.equal(longer.train[:31], data.train)


def _equal(a: TextData, b: TextData) -> bool:
    parts = ("train", "score", "evaluate")
    return a.split == b.split and all(torch.equal(getattr(a, p), getattr(b, p)) for p in parts)


def test_seeds(tiny_teacher: Teacher) -> None:
    config = DataConfig(sequence_length=64, evaluate_tokens=640)
    first, again, other = (load_text_data(config, tiny_teacher, seed) for seed in (3, 3, 4))
    assert _equal(first, again)
    assert not torch.equal(first.evaluate, other.evaluate)
    assert first.split.sources[0].documents > 50


@given(
    tokens=st.integers(0, 3000),
    length=st.integers(1, 40),
    fraction=st.floats(0.01, 0.89, allow_subnormal=False),
    score=st.integers(1, 9),
    evaluate_tokens=st.none() | st.integers(1, 500),
    train_tokens=st.none() | st.integers(1, 3000),
)
def test_parts_never_overlap(
    tokens: int,
    length: int,
    fraction: float,
    score: int,
    evaluate_tokens: int | None,
    train_tokens: int | None,
) -> None:
    config = DataConfig(
        sequence_length=length,
        evaluate_fraction=fraction,
        evaluate_tokens=evaluate_tokens,
        score_sequences=score,
        train_tokens=train_tokens,
    )
    try:
        split = cut(tokens, (), config, seed=0)
    except ConfigError:
        needed = (score + 2) * length
        limits = min(evaluate_tokens or length, train_tokens or length)
        assert tokens * fraction < length or tokens * (1 - fraction) < needed or limits < length
        return
    stream = torch.arange(tokens)
    parts = [
        _windows(stream, p.start, p.stop, length).flatten().tolist()
        for p in (split.train, split.score, split.evaluate)
    ]
    train, scored, evaluated = map(set, parts)
    assert sum(map(len, parts)) == len(train | scored | evaluated)
    assert max(train) < min(scored) <= max(scored) < min(evaluated)
    assert len(scored) == score * length
    assert min(evaluated) >= tokens * (1 - fraction) - 1
    assert split.train.sequences * length <= len(train)
    assert evaluate_tokens is None or len(evaluated) <= evaluate_tokens


def test_an_overlapping_record_is_refused(numbered: Path, tiny_teacher: Teacher) -> None:
    record = load_text_data(_data(numbered), tiny_teacher, seed=0).split.model_dump()
    record["score"]["start"] -= 1
    with pytest.raises(ValidationError, match="overlap"):
        Split.model_validate(record)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"sequence_length": 128, "evaluate_fraction": 0.01}, "for evaluation .*add text or lower"),
        ({"score_sequences": 300}, "for training"),
        ({"train_tokens": 5}, r"data\.train_tokens: 5 is less than one window"),
        ({"evaluate_tokens": 5}, r"data\.evaluate_tokens: 5 is less than one window"),
        ({"sequence_length": 4096}, "more than the 128 positions"),
    ],
)
def test_too_little(
    rest: dict[str, Any], message: str, numbered: Path, tiny_teacher: Teacher
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_text_data(_data(numbered, **rest), tiny_teacher, seed=0)


def test_the_same_text_twice_is_refused(numbered: Path, tiny_teacher: Teacher) -> None:
    (copy := numbered.with_name("copy.txt")).write_bytes(numbered.read_bytes())
    config = DataConfig(sources=(FileText(path=numbered), FileText(path=copy)), sequence_length=32)
    with pytest.raises(ConfigError, match=r"copy\.txt and .*numbered\.txt hold the same text"):
        load_text_data(config, tiny_teacher, seed=0)


def test_a_source_of_empty_documents(tmp_path: Path, tiny_teacher: Teacher) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n')
    config = DataConfig(sources=(PythonDocsText(), JsonlText(path=tmp_path / "a.jsonl")))
    with pytest.raises(ConfigError, match=r"a\.jsonl:text holds no text"):
        load_text_data(config.model_copy(update={"sequence_length": 32}), tiny_teacher, seed=0)


class _Documents:
    name = "documents"

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def documents(self) -> Any:
        return iter(self.texts)


def test_one_separator_between_documents() -> None:
    tokenizer = tiny_tokenizer()
    a, b, c = (tokenizer(letter).input_ids[0] for letter in "abc")
    two = [_Documents("a", "b"), _Documents("c")]
    stream, records = token_stream(two, tokenizer)  # type: ignore[arg-type]
    assert stream.tolist() == [a, 257, b, 257, c]
    assert [(r.documents, r.tokens) for r in records] == [(2, 2), (1, 1)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 256)]
    )
    stream, _ = token_stream(two, tokenizer)  # type: ignore[arg-type]
    assert stream.tolist() == [256, a, 256, b, 256, c]


def _sampled(numbered: Path, teacher: Teacher, seed: int = 0, **rest: Any) -> TextData:
    samples = TeacherSamplesText(tokens=200, batch=4, **rest)
    config = DataConfig(
        sources=(FileText(path=numbered), samples), sequence_length=32, score_sequences=5
    )
    return load_text_data(config, teacher, seed)


def _rows(windows: Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in windows.tolist()}


def test_sampled_text_joins_training_only(numbered: Path, tiny_teacher: Teacher) -> None:
    plain = load_text_data(_data(numbered), tiny_teacher, seed=0)
    data = _sampled(numbered, tiny_teacher, prompt_tokens=6)
    assert torch.equal(data.score, plain.score)
    assert torch.equal(data.evaluate, plain.evaluate)
    assert data.split.sampled_tokens == 7 * 32
    assert len(data.train) == len(plain.train) + 7
    sampled = _rows(data.train) - _rows(plain.train)
    assert len(sampled) == 7
    text = "".join(f"{i:07d} " for i in range(1000))
    trained = [tiny_tokenizer().decode(row) for row in plain.train]
    for row in sampled:
        prompt = tiny_tokenizer().decode(row[:6])
        assert any(prompt in window for window in trained)
        assert tiny_tokenizer().decode(row) not in text


def test_sampling_depends_on_the_seed(numbered: Path, tiny_teacher: Teacher) -> None:
    first, again, other = (_sampled(numbered, tiny_teacher, seed) for seed in (0, 0, 1))
    assert torch.equal(first.train, again.train)
    assert not torch.equal(first.train, other.train)


def test_cold_sampling_is_greedy(numbered: Path, tiny_teacher: Teacher) -> None:
    """At next to no temperature each token is the one the chain itself ranks first."""
    chain = tiny_teacher.chain
    prompts = torch.arange(6).reshape(2, 3)
    ids = continued(chain, prompts, 12, 1e-4, torch.Generator().manual_seed(0))
    assert ids.shape == (2, 12)
    assert torch.equal(ids[:, :3], prompts)
    assert torch.equal(chain(ids)[:, 2:-1].argmax(-1), ids[:, 3:])


def test_draws_follow_the_distribution() -> None:
    chances = torch.tensor([0.5, 0.0, 0.2, 0.3])
    draws = _draw(chances.log().expand(20_000, 4), torch.Generator().manual_seed(0))
    shares = torch.bincount(draws.flatten(), minlength=4) / 20_000
    assert shares[1] == 0
    torch.testing.assert_close(shares, chances, atol=0.02, rtol=0)


def test_samples_from_the_beginning_token(numbered: Path, tiny_teacher: Teacher) -> None:
    data = _sampled(numbered, tiny_teacher, prompt_tokens=0)
    assert int((data.train[:, 0] == 256).sum()) == 7


def test_sampling_that_cannot_work(numbered: Path, tiny_teacher: Teacher) -> None:
    with pytest.raises(ConfigError, match="prompt_tokens 32 leaves nothing"):
        _sampled(numbered, tiny_teacher, prompt_tokens=32)
    with pytest.raises(ConfigError, match="add a source of text"):
        load_text_data(
            DataConfig(sources=(TeacherSamplesText(),), sequence_length=32), tiny_teacher, seed=0
        )


def test_long_texts_are_tokenised_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        long = "x" * 500
        token_stream([_Documents(long)], tiny_tokenizer())  # type: ignore[list-item]
        assert not caplog.records
        tiny_tokenizer()(long)
        assert "longer than" in caplog.text  # what would have been said
    finally:
        logger.removeHandler(caplog.handler)
