"""The KL of an encoder with a masked head: its value, gradient and curvature."""

from __future__ import annotations

import pytest
import torch

from nas.chain import EncoderChain
from nas.objectives import MaskedLanguageObjective, objective_of
from tests.encoders import encoder_shape, tiny_encoder


@pytest.fixture(scope="module")
def chain() -> EncoderChain:
    return tiny_encoder(encoder_shape(masked_head=True))


@pytest.fixture
def objective(chain: EncoderChain) -> MaskedLanguageObjective:
    found = objective_of(chain)
    assert isinstance(found, MaskedLanguageObjective)
    return found


def _states(seed: int) -> torch.Tensor:
    return torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(seed))


def _kl(chain: EncoderChain, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Of each text, averaged over its tokens; with all of the head spelt out."""
    head, logs = chain.head, []
    assert head is not None
    for states in (teacher, student):
        read = torch.nn.functional.gelu(states @ head.dense.weight.T + head.dense.bias)
        mean, variance = read.mean(-1, keepdim=True), read.var(-1, keepdim=True, correction=0)
        normed = (read - mean) / (variance + head.norm.eps).sqrt() * head.norm.weight
        logits = (normed + head.norm.bias) @ chain.embed.weight.T + head.bias
        logs.append(logits.log_softmax(-1))
    return (logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean(-1)


def test_it_is_the_kl_of_the_logits(
    chain: EncoderChain, objective: MaskedLanguageObjective
) -> None:
    teacher, student = _states(0), _states(1)
    expected = _kl(chain, teacher, student)
    found = objective.divergence(teacher)(student)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    loss = objective.loss(student, objective.goal(teacher))
    torch.testing.assert_close(loss, expected.mean(), rtol=1e-4, atol=1e-5)
    assert float(objective.divergence(teacher)(teacher).max()) < 1e-6


def test_the_first_row_is_the_gradient(
    chain: EncoderChain, objective: MaskedLanguageObjective
) -> None:
    teacher, student = _states(0), (_states(0) + 0.3 * _states(1)).requires_grad_()
    expected = torch.autograd.grad(5 * _kl(chain, teacher, student).sum(), student)[0]
    rows = objective.gradients(student.detach(), teacher, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows[0], expected, rtol=1e-3, atol=1e-4)
    learnt = _states(1).requires_grad_()
    objective.loss(learnt, objective.goal(teacher)).backward()
    mean = torch.autograd.grad(
        _kl(chain, teacher, again := _states(1).requires_grad_()).mean(), again
    )
    torch.testing.assert_close(learnt.grad, mean[0], rtol=1e-3, atol=1e-5)


def test_draws_have_the_curvature_of_the_kl(
    chain: EncoderChain, objective: MaskedLanguageObjective
) -> None:
    teacher, change = _states(0), 1e-2 * _states(2)
    rows = objective.gradients(teacher, None, 4000, torch.Generator().manual_seed(0))
    second = 0.5 * torch.einsum("rsth,sth->rst", rows, change).pow(2).mean(0).mean(1)
    exact = objective.divergence(teacher)(teacher + change)
    torch.testing.assert_close(second, exact, rtol=0.15, atol=0)


def test_embeddings_that_are_trained_get_their_gradient(chain: EncoderChain) -> None:
    weight = chain.embed.weight.detach().clone().requires_grad_()
    assert chain.head is not None
    bias = chain.head.bias.detach().clone().requires_grad_()
    objective = MaskedLanguageObjective(chain.head, weight, bias)
    with torch.no_grad():
        goal = objective.goal(_states(0))
    objective.loss(_states(1), goal).backward()
    read = chain.head(_states(1)).flatten(0, 1)
    teacher = (chain.head(_states(0)).flatten(0, 1) @ weight.T + bias).softmax(-1)
    apart = ((read @ weight.T + bias).softmax(-1) - teacher).detach() / len(read)
    torch.testing.assert_close(weight.grad, apart.T @ read, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(bias.grad, apart.sum(0), rtol=1e-3, atol=1e-6)
