"""The distance of embeddings and of their similarities: value, gradient, and the curvature that
draws stand for."""

from __future__ import annotations

import pytest
import torch

from nas.objectives import EmbeddingObjective, objective_of, similarity_metric
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


def _texts() -> torch.Tensor:
    """Embeddings [40, 8] of unit length, of unequal power in their directions."""
    generator = torch.Generator().manual_seed(7)
    spread = torch.randn(40, 8, generator=generator) * torch.linspace(2, 0.2, 8) + 0.5
    return torch.nn.functional.normalize(spread, dim=-1)


def _measure(student: torch.Tensor, teacher: torch.Tensor, weight: float) -> torch.Tensor:
    """Of each text: 1 - cos, and what its similarities with all of `_texts` miss."""
    texts = _texts().to(student.dtype)
    found = torch.nn.functional.normalize(student.mean(1), dim=-1)
    wanted = torch.nn.functional.normalize(teacher.mean(1), dim=-1)
    apart = (texts @ texts.T)[~torch.eye(40, dtype=torch.bool)]
    missed = (found @ texts.T - wanted @ texts.T).pow(2).mean(-1) / apart.var(correction=0)
    return _one_less_cosine(student, teacher) + weight * missed


@pytest.fixture(params=[0.0, 0.5, 3.0])
def weight(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture
def weighed(weight: float) -> EmbeddingObjective:
    return EmbeddingObjective(lambda hidden: hidden.mean(1), similarity_metric(_texts(), weight))


def test_similarities_count_by_their_squared_error(
    weighed: EmbeddingObjective, weight: float
) -> None:
    teacher, student = _states(), _states(seed=1)
    expected = _measure(student, teacher, weight)
    torch.testing.assert_close(weighed.divergence(teacher)(student), expected)
    torch.testing.assert_close(weighed.loss(student, weighed.goal(teacher)), expected.mean())


def test_the_first_row_is_the_gradient_of_both_terms(
    weighed: EmbeddingObjective, weight: float
) -> None:
    teacher, student = _states(), _states(seed=1).requires_grad_()
    expected = torch.autograd.grad(_measure(student, teacher, weight).sum(), student)[0]
    rows = weighed.gradients(student.detach(), teacher, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows[0], 5 * expected, rtol=1e-4, atol=1e-5)


def test_draws_have_the_curvature_of_both_terms(weighed: EmbeddingObjective, weight: float) -> None:
    teacher, change = _states(), 1e-3 * _states(seed=2)
    rows = weighed.gradients(teacher, None, 4000, torch.Generator().manual_seed(0))
    second = 0.5 * torch.einsum("rsth,sth->rs", rows, change).pow(2).mean(0) / 5
    exact = _measure(teacher.double() + change.double(), teacher.double(), weight)
    torch.testing.assert_close(second.double(), exact.double(), rtol=0.1, atol=0)


def test_texts_that_are_all_alike_give_a_finite_metric() -> None:
    alike = torch.ones(5, 8)
    assert bool(torch.isfinite(similarity_metric(alike, 1.0)).all())


def test_the_metric_ranks_students_as_their_similarities_do() -> None:
    """Two errors of one length: along the power of the texts, and across it."""
    texts = _texts()
    objective = EmbeddingObjective(lambda h: h.mean(1), similarity_metric(texts, 1.0))
    axes = torch.linalg.eigh(texts.T @ texts).eigenvectors
    signs = torch.randn(40, 1, generator=torch.Generator().manual_seed(3)).sign()

    def judged(direction: torch.Tensor) -> tuple[float, float]:
        student = torch.nn.functional.normalize(texts + 0.2 * signs * direction, dim=-1)
        above = torch.triu_indices(40, 40, 1)
        pair = [(e @ e.T)[above[0], above[1]] for e in (texts, student)]
        measure = objective.divergence(texts[:, None])(student[:, None]).mean()
        return float(measure), float(torch.corrcoef(torch.stack(pair))[0, 1])

    across, along = judged(axes[:, 0]), judged(axes[:, -1])
    assert across[0] < along[0]
    assert across[1] > along[1]


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
    found, metric = objective_of(chain), torch.eye(32)
    assert isinstance(found, EmbeddingObjective)
    assert found.metric is None
    assert getattr(objective_of(chain, metric), "metric", None) is metric
    hidden = _states(width=32)
    expected = torch.nn.functional.normalize(hidden.mean(1), dim=-1)
    torch.testing.assert_close(chain.pool(hidden), expected)
    mask = torch.tensor([[1, 1, 1, 0, 0]]).expand(3, 5)
    torch.testing.assert_close(chain.pool(hidden, mask), chain.pool(hidden[:, :3]))
