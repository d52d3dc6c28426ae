"""Divergences against the plain formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nas.objectives import HeadGoal, ReferenceKl, _kl, cosine_distance, head_gradients, head_kl


def _plain(p_logits: torch.Tensor, q_logits: torch.Tensor) -> torch.Tensor:
    log_p, log_q = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _case(rows: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, nn.Linear]:
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(16, 300, bias=False).requires_grad_(False)
    head.weight.copy_(torch.randn(300, 16, generator=generator))
    return torch.randn(*rows, 16, generator=generator), head


@pytest.mark.parametrize("kept", [True, False])
def test_kl_is_the_mean_over_tokens_of_each_sequence(
    kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_kl, "_CACHED_BYTES", 2**40 if kept else 0)
    reference, head = _case((3, 200))
    changed = reference + 0.3 * _case((3, 200), seed=1)[0]
    found = ReferenceKl(reference, head)(changed)
    expected = _plain(head(reference), head(changed)).mean(-1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_no_change_is_no_divergence_even_in_low_precision() -> None:
    reference, head = _case((2, 50))
    assert ReferenceKl(reference, head.to(torch.bfloat16))(reference).max() < 1e-6


def test_small_divergences_survive_low_precision() -> None:
    reference, head = _case((2, 50))
    changed = reference + 1e-3 * _case((2, 50), seed=1)[0]
    wide = copy.deepcopy(head).double()
    exact = _plain(wide(reference.double()), wide(changed.double())).mean(-1)
    low = ReferenceKl(reference, head.to(torch.bfloat16))(changed)
    assert exact.max() < 1e-4
    torch.testing.assert_close(low, exact.float(), rtol=0.15, atol=0)


def test_a_large_difference_stays_finite() -> None:
    reference, head = _case((1, 4))
    assert torch.isfinite(ReferenceKl(reference, head)(1e3 * reference)).all()


def test_head_kl_and_its_gradients_are_those_of_the_plain_formula() -> None:
    student, head = _case((300,))
    teacher = _case((300,), seed=2)[0]
    student.requires_grad_(True)
    weight = head.weight.clone().requires_grad_(True)
    loss = head_kl(student, weight, HeadGoal.of(teacher, head.weight))
    loss.backward()
    again, own = student.detach().requires_grad_(True), weight.detach().requires_grad_(True)
    plain = _plain(teacher @ head.weight.T, again @ own.T).mean()
    plain.backward()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(student.grad, again.grad)
    torch.testing.assert_close(weight.grad, own.grad)


def test_cosine_distance_is_zero_for_a_multiple_and_two_for_the_opposite() -> None:
    x = _case((5,))[0]
    assert cosine_distance(x, 3 * x).abs() < 1e-6
    assert (cosine_distance(x, -x) - 2).abs() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_head_gradient_is_that_of_the_kl(dtype: torch.dtype) -> None:
    head = _case((1,))[1].to(dtype)
    goal = 0.5 * _case((2, 40))[0]
    hidden = goal + 0.2 * _case((2, 40), seed=1)[0]
    wide = hidden.clone().requires_grad_()
    weight = head.weight.float()
    _plain(goal @ weight.T, wide @ weight.T).sum().backward()
    found = head_gradients(hidden, goal, head, 3, torch.Generator().manual_seed(0))
    assert found.shape == (4, 2, 40, 16)
    error = (found[0] - wide.grad).norm() / wide.grad.norm()
    assert error < (1e-5 if dtype == torch.float32 else 0.03)


def test_label_gradients_have_mean_zero_and_the_fisher_form() -> None:
    hidden, head = _case((1, 1))
    draws = head_gradients(hidden, None, head, 20000, torch.Generator().manual_seed(0))[:, 0, 0]
    q = head(hidden)[0, 0].softmax(-1)
    centred = head.weight - q @ head.weight
    fisher = centred.T @ (q[:, None] * centred)
    assert draws.mean(0).norm() < 0.05 * fisher.trace().sqrt()
    error = (draws.T @ draws / len(draws) - fisher).norm() / fisher.norm()
    assert error < 0.05
