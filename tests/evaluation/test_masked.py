"""Masked tokens told by teacher and student, against sums spelt out."""

from __future__ import annotations

import math

import pytest
import torch

from nas.data import mask_tokens
from nas.errors import PassError
from nas.evaluation import masked_quality
from tests.encoders import MASK_TOKEN, encoder_shape, tiny_encoder

WINDOWS = torch.randint(4, 18, (5, 12), generator=torch.Generator().manual_seed(0))


def test_quality_is_what_logits_say() -> None:
    shape = encoder_shape(masked_head=True)
    teacher, student = tiny_encoder(shape), tiny_encoder(shape, seed=1)
    masked = mask_tokens(WINDOWS, MASK_TOKEN, seed=0)
    found = masked_quality(teacher, {"student": student}, WINDOWS, masked, batch=2)
    log_p, log_q = (c.logits(c(masked)).log_softmax(-1) for c in (teacher, student))
    at = masked == MASK_TOKEN
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean(1)
    told = log_q.gather(-1, WINDOWS[..., None])[..., 0]
    agrees = (log_p.argmax(-1) == log_q.argmax(-1))[at].float().mean()

    assert found["student"].kl == pytest.approx(kl.tolist(), rel=1e-4)
    expected = math.exp(-float(told[at].mean()))
    assert found["student"].perplexity == pytest.approx(expected, rel=1e-4)
    assert found["student"].top1_agreement == pytest.approx(float(agrees))
    assert found["teacher"].kl_mean == pytest.approx(0, abs=1e-9)
    assert found["teacher"].top1_agreement == 1


def test_text_without_masked_tokens_is_refused() -> None:
    teacher = tiny_encoder(encoder_shape(masked_head=True))
    with pytest.raises(PassError, match="masked tokens"):
        masked_quality(teacher, {}, WINDOWS, WINDOWS)
