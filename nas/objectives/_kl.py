"""KL divergences over a large vocabulary, in chunks of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ROWS = 256


@torch.no_grad()
def sequence_kl(reference: Tensor, changed: Tensor, head: nn.Linear) -> Tensor:
    """KL(reference || changed) of each sequence, averaged over its tokens.

    `reference` [sequences, tokens, hidden] and `changed` [variants, sequences, tokens, hidden] are
    the inputs of the head, in float32. Returns [variants, sequences] in nats.

    With d = head(changed - reference), KL = log E_p[exp d] - E_p[d] for p = softmax of the
    reference logits. Only the difference passes through the head in low precision, so the rounding
    error shrinks with the difference and small divergences stay exact.
    """
    variants, sequences, tokens, hidden = changed.shape
    flat, moved = reference.reshape(-1, hidden), changed.reshape(variants, -1, hidden)
    result = torch.empty(variants, len(flat), device=changed.device)
    for i in range(0, len(flat), ROWS):
        rows = slice(i, i + ROWS)
        p = head(flat[rows].to(head.weight.dtype)).float().softmax(-1)
        for v in range(variants):
            delta = head((moved[v, rows] - flat[rows]).to(head.weight.dtype)).float()
            result[v, rows] = _kl_from_difference(p, delta)
    return result.reshape(variants, sequences, tokens).mean(-1)


def _kl_from_difference(p: Tensor, delta: Tensor) -> Tensor:
    """log E_p[exp d] - E_p[d] of each row, with the largest d taken out of the exponential."""
    top = delta.amax(-1, keepdim=True)
    mean = (p * delta).sum(-1)
    log_mean = (p * (delta - top).exp_()).sum(-1).clamp(min=1e-38).log() + top.squeeze(-1)
    return (log_mean - mean).clamp(min=0)


class _HeadKl(torch.autograd.Function):
    """Mean KL(teacher || student) over rows, with the gradient made in the forward pass.

    Neither [rows, vocab] logits nor their gradient outlive a chunk.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        weight: Tensor,
        teacher: Tensor,
        teacher_weight: Tensor,
    ) -> Tensor:
        needs_weight = weight.requires_grad
        low = teacher_weight.dtype
        cast = weight.to(low)
        grad_hidden = torch.empty_like(student)
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        total = student.new_zeros((), dtype=torch.float32)
        for i in range(0, len(student), ROWS):
            rows = slice(i, i + ROWS)
            hidden = student[rows].to(low)
            log_q = (hidden @ cast.T).float().log_softmax(-1)
            log_p = (teacher[rows].to(low) @ teacher_weight.T).float().log_softmax(-1)
            p = log_p.exp()
            total += (p * (log_p - log_q)).sum()
            grad = log_q.exp_().sub_(p).div_(len(student)).to(low)
            grad_hidden[rows] = (grad @ cast).to(student.dtype)
            if grad_weight is not None:
                grad_weight += (grad.T @ hidden).to(weight.dtype)
        ctx.save_for_backward(grad_hidden, *([] if grad_weight is None else [grad_weight]))
        return total / len(student)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = upstream
        grad_hidden, *rest = ctx.saved_tensors
        grad_weight = rest[0] * scale if rest else None
        return grad_hidden * scale, grad_weight, None, None


def head_kl(student: Tensor, weight: Tensor, teacher: Tensor, teacher_weight: Tensor) -> Tensor:
    """Mean KL(softmax(teacher W_t') || softmax(student W')) over rows [rows, hidden], in nats.

    Differentiable in `student` and, where it asks for a gradient, in `weight` [vocab, hidden].
    """
    loss: Tensor = _HeadKl.apply(student, weight, teacher, teacher_weight)  # type: ignore[no-untyped-call]
    return loss


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cos over all but the last dimension (arXiv 2411.19146, section 5)."""
    return 1 - nn.functional.cosine_similarity(student.float(), teacher.float(), dim=-1).mean()
