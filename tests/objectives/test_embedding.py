"""The distance of embeddings: its value, its gradient, and the curvature that draws stand for."""

from __future__ import annotations

import pytest
import torch

from nas.objectives import EmbeddingObjective, objective_of
from tests.encoders import tiny_encoder


def _states(rows: int = 3, tokens: int = 5, width: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, tokens, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def objective() -> EmbeddingObjective:
    return EmbeddingObjective(lambda hidden: hidden.mean(1))


def _one_less_cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return 1 - torch.nn.functional.cosine_similarity(a.mean(1), b.mean(1), dim=-1)


def test_it_is_one_less_the_cosine_of_each_text(objective: EmbeddingObjective) -> None:
    teacher, student = _states(), _states(seed=1)
    expected = _one_less_cosine(teacher, student)
    torch.testing.assert_close(objective.divergence(teacher)(student), expected)
    torch.testing.assert_close(objective.loss(student, objective.goal(teacher)), expected.mean())
    assert float(objective.divergence(teacher)(teacher).abs().max()) == 0


def test_the_first_row_is_the_gradient(objective: EmbeddingObjective) -> None:
    teacher, student = _states(), _states(seed=1).requires_grad_()
    expected = torch.autograd.grad(_one_less_cosine(teacher, student).sum(), student)[0]
    rows = objective.gradients(student.detach(), teacher, 2, torch.Generator().manual_seed(0))
    # summed over tokens: each text counts once a token
    torch.testing.assert_close(rows[0], 5 * expected, rtol=1e-4, atol=1e-6)


def test_draws_have_the_curvature_of_the_distance(objective: EmbeddingObjective) -> None:
    teacher, change = _states(), 1e-3 * _states(seed=2)
    rows = objective.gradients(teacher, None, 4000, torch.Generator().manual_seed(0))
    second = 0.5 * torch.einsum("rsth,sth->rs", rows, change).pow(2).mean(0) / 5
    true = objective.divergence(teacher.double())(teacher.double() + change.double())
    torch.testing.assert_close(second.double(), true.double(), rtol=0.08, atol=0)


def test_an_encoder_is_kept_near_by_its_embeddings() -> None:
    chain = tiny_encoder()
    assert isinstance(objective_of(chain), EmbeddingObjective)
    hidden = _states(width=32)
    expected = torch.nn.functional.normalize(hidden.mean(1), dim=-1)
    torch.testing.assert_close(chain.pool(hidden), expected)
    mask = torch.tensor([[1, 1, 1, 0, 0]]).expand(3, 5)
    torch.testing.assert_close(chain.pool(hidden, mask), chain.pool(hidden[:, :3]))
