"""Scores against whole networks run from the start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from nas._numerics import compute_dtype
from nas.ir import Architecture
from nas.passes import Artefacts
from nas.passes.assemble import assemble


def test_a_score_is_the_kl_of_the_network_with_the_block_swapped(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.passes.score.compute_dtype", lambda device: torch.float32)
    view = artefacts(score={"batch_sequences": 2})
    teacher, ids = view.context.teacher.chain, view.context.text.score
    view.scores  # noqa: B018
    log_p = teacher(ids).log_softmax(-1)
    for candidate in view.candidates:
        swapped = Architecture().replaced(candidate.slot, candidate.spec)
        log_q = assemble(teacher, swapped, view.context.run.root)(ids).log_softmax(-1)
        expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean(-1)
        found = view.scores[candidate.id]
        assert found.shape == (3,)
        np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=1e-6)


def test_low_precision_scores_agree_with_float32(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    if compute_dtype("cpu") == torch.float32:
        pytest.skip("this processor has no bfloat16")
    low = {name: values.mean() for name, values in artefacts().scores.items()}
    monkeypatch.setattr("nas.passes.score.compute_dtype", lambda device: torch.float32)
    view = artefacts(score={"batch_sequences": 4})
    view.context.run.path("units", "score").rename(view.context.run.path("units", "old"))
    exact = {name: values.mean() for name, values in view.scores.items()}
    for name, value in exact.items():
        assert low[name] == pytest.approx(value, rel=0.1, abs=1e-3)
