"""The refit on chains of every kind: skips, biases, windows, number formats."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nas.chain import DecoderChain
from nas.ir import Architecture
from nas.passes.refit import refit
from tests.chains import tiny_chain, tiny_shape

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "untied": {"tied_embeddings": False},
    "biased": {"qkv_bias": True, "output_bias": True, "ffn_bias": True},
    "windowed": {"sliding_window": 8},
}


@torch.no_grad()
def _drift(teacher: DecoderChain, student: DecoderChain, ids: Tensor) -> float:
    """Mean square of what the student's last state lacks."""
    last = [c.run(c.embed_tokens(ids), c.context(ids)).float() for c in (teacher, student)]
    return float((last[0] - last[1]).pow(2).mean())


def _pair(**shape: Any) -> tuple[DecoderChain, DecoderChain, Tensor]:
    """A teacher, a student with its embedding and other, unrelated blocks, and text."""
    found = tiny_shape(**shape)
    teacher, student = tiny_chain(found, Architecture()), tiny_chain(found, seed=1)
    student.embed.load_state_dict(teacher.embed.state_dict())
    return teacher, student, torch.randint(0, 250, (40, 24), generator=torch.manual_seed(0))


@pytest.mark.parametrize("kind", SHAPES)
def test_the_last_state_comes_nearer_on_fresh_text(kind: str) -> None:
    teacher, student, ids = _pair(**SHAPES[kind])
    before = _drift(teacher, student, ids[32:])
    refit(teacher, {"student": student}, ids[:32], 1e-2, lambda slots: None)
    assert _drift(teacher, student, ids[32:]) < 0.7 * before


def test_a_teacher_in_bfloat16_is_walked_too() -> None:
    teacher, student, ids = (
        part.in_dtype(torch.bfloat16) if isinstance(part, DecoderChain) else part
        for part in _pair()
    )
    before = _drift(teacher, student, ids)
    refit(teacher, {"student": student}, ids, 1e-2, lambda slots: None)
    assert _drift(teacher, student, ids) < 0.7 * before
    assert {p.dtype for p in student.parameters()} == {torch.bfloat16}


def test_a_heavy_penalty_leaves_the_student_as_it_is() -> None:
    teacher, student, ids = _pair()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    refit(teacher, {"student": student}, ids, 1e9, lambda slots: None)
    for name, value in student.state_dict().items():
        if "proj.bias" not in name:  # an intercept is not penalised
            torch.testing.assert_close(value, before[name], atol=1e-5, rtol=1e-4)
