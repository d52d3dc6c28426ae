"""Quality on text equals what plain torch computes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from nas.chain import DecoderChain
from nas.errors import PassError
from nas.evaluation import _language, language_quality
from nas.ir import Architecture
from tests.chains import tiny_chain, tiny_ids, tiny_shape


@pytest.fixture
def teacher() -> DecoderChain:
    return tiny_chain(architecture=Architecture())


@pytest.mark.parametrize("rows", [7, 512])
def test_quality_equals_plain_torch(
    teacher: DecoderChain, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(_language, "ROWS", rows)
    student, ids = tiny_chain(seed=3), tiny_ids(5, 10)
    found = language_quality(teacher, {"s": student}, ids, batch=2)
    p, q = teacher(ids).log_softmax(-1), student(ids).log_softmax(-1)
    kl = kl_div(q, p, reduction="none", log_target=True).sum(-1).mean(1)
    nll = cross_entropy(q[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").mean(1)
    torch.testing.assert_close(torch.tensor(found["s"].kl), kl, atol=1e-5, rtol=1e-4)
    assert found["s"].kl_mean == pytest.approx(float(kl.mean()), rel=1e-4)
    assert found["s"].kl_standard_error == pytest.approx(float(kl.std() / math.sqrt(5)), rel=1e-4)
    assert found["s"].perplexity == pytest.approx(float(nll.mean().exp()), rel=1e-4)
    agreement = (p.argmax(-1) == q.argmax(-1)).float().mean()
    assert found["s"].top1_agreement == pytest.approx(float(agreement))


def test_teacher_stands_beside_its_students(teacher: DecoderChain) -> None:
    ids = tiny_ids()
    found = language_quality(teacher, {"copy": teacher}, ids)
    assert list(found) == ["teacher", "copy"]
    assert found["teacher"].kl_mean == 0
    assert found["teacher"].top1_agreement == 1
    assert found["copy"].kl_mean == pytest.approx(0, abs=1e-6)
    assert found["copy"].perplexity == found["teacher"].perplexity
    assert language_quality(teacher, {}, ids[:1])["teacher"].kl_standard_error is None


def test_teacher_runs_once_a_batch(teacher: DecoderChain) -> None:
    runs = []
    teacher.embed.register_forward_hook(lambda *_: runs.append(1))
    students = {str(seed): tiny_chain(seed=seed) for seed in range(3)}
    language_quality(teacher, students, tiny_ids(5), batch=2)
    assert len(runs) == 3


def test_low_precision_stays_close_and_leaves_the_teacher() -> None:
    teacher, ids = tiny_chain(architecture=Architecture()), tiny_ids(2, 100)
    exact = language_quality(teacher, {}, ids)["teacher"]
    low = language_quality(teacher, {}, ids, dtype=torch.bfloat16)["teacher"]
    assert low.perplexity == pytest.approx(exact.perplexity, rel=0.05)
    assert low.perplexity != exact.perplexity
    assert teacher.norm.weight.dtype == torch.float32


def test_unusable_input_is_named(teacher: DecoderChain) -> None:
    with pytest.raises(PassError, match=r"found shape \[0, 12\]"):
        language_quality(teacher, {}, tiny_ids()[:0])
    with pytest.raises(PassError, match=r"found shape \[3, 1\]"):
        language_quality(teacher, {}, tiny_ids()[:, :1])
    with pytest.raises(PassError, match="no student may be called 'teacher'"):
        language_quality(teacher, {"teacher": teacher}, tiny_ids())
    with pytest.raises(PassError, match="student s has 300 tokens, the teacher 264"):
        language_quality(teacher, {"s": tiny_chain(tiny_shape(vocab_size=300))}, tiny_ids())
