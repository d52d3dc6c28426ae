"""KL divergences over a large vocabulary, in chunks of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ROWS = 128
_CACHED_BYTES = 2**29


class ReferenceKl:
    """KL from a fixed reference distribution, for many changed networks.

    `reference` [sequences, tokens, hidden] holds the reference's inputs of the head in float32. Its
    distribution is kept where it fits in half a GiB, else made anew for each call.
    """

    def __init__(self, reference: Tensor, head: nn.Linear) -> None:
        self.sequences = len(reference)
        self._flat, self._head = reference.flatten(0, 1), head
        size = 4 * len(self._flat) * head.weight.shape[0]
        parts = range(0, len(self._flat), ROWS)
        self._kept = [self._distribution(i) for i in parts] if size <= _CACHED_BYTES else None

    @torch.no_grad()
    def __call__(self, changed: Tensor) -> Tensor:
        """KL(reference || changed) of each sequence, averaged over its tokens, in nats.

        `changed` is shaped like the reference. With d = head(changed - reference) and p the softmax
        of the reference logits, KL = log E_p[exp d] - E_p[d]. Only the difference passes through
        the head in low precision, so the rounding error shrinks with it and small divergences stay
        exact.
        """
        moved, head = changed.flatten(0, 1), self._head
        result = torch.empty(len(moved), device=moved.device)
        for k, i in enumerate(range(0, len(moved), ROWS)):
            rows = slice(i, i + ROWS)
            p = self._distribution(i) if self._kept is None else self._kept[k]
            difference = (moved[rows] - self._flat[rows]).to(head.weight.dtype)
            result[rows] = _kl_from_difference(p, head(difference).float())
        return result.reshape(self.sequences, -1).mean(-1)

    @torch.no_grad()
    def _distribution(self, start: int) -> Tensor:
        hidden = self._flat[start : start + ROWS].to(self._head.weight.dtype)
        logits: Tensor = self._head(hidden)
        p: Tensor = logits.float().softmax(-1)
        return p


def _kl_from_difference(p: Tensor, delta: Tensor) -> Tensor:
    """log E_p[exp d] - E_p[d] of each row, with the largest d taken out of the exponential."""
    mean: Tensor = torch.linalg.vecdot(p, delta)
    top = delta.amax(-1, keepdim=True)
    log_mean: Tensor = torch.linalg.vecdot(p, delta.sub_(top).exp_()).clamp(min=1e-38).log()
    return (log_mean + top.squeeze(-1) - mean).clamp(min=0)


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
        # float16 would lose the gradient's small entries
        low = torch.bfloat16 if teacher_weight.dtype == torch.float16 else teacher_weight.dtype
        cast, reference = weight.to(low), teacher_weight.to(low)
        grad_hidden = torch.empty_like(student)
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        total = student.new_zeros((), dtype=torch.float32)
        for i in range(0, len(student), ROWS):
            rows = slice(i, i + ROWS)
            hidden = student[rows].to(low)
            log_q = (hidden @ cast.T).float().log_softmax(-1)
            log_p = (teacher[rows].to(low) @ reference.T).float().log_softmax(-1)
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


@torch.no_grad()
def head_gradients(
    hidden: Tensor, goal: Tensor | None, head: nn.Linear, draws: int, generator: torch.Generator
) -> Tensor:
    """Gradients with respect to the head's input [1 + draws, sequences, tokens, hidden].

    The first is that of the summed KL(teacher || network), zero where `goal` is None; `goal` is the
    teacher's input of the head. The others are those of the summed log q(y|x), each with its own
    labels y drawn from the network's prediction q. All are in float32.
    """
    flat, weight = hidden.flatten(0, 1), head.weight
    found = torch.zeros(1 + draws, *flat.shape, device=flat.device)
    for i in range(0, len(flat), ROWS):
        rows = slice(i, i + ROWS)
        q = head(flat[rows].to(weight.dtype)).float().softmax(-1)
        mean = (q.to(weight.dtype) @ weight).float()
        labels = torch.multinomial(q, draws, replacement=True, generator=generator)
        found[1:, rows] = weight[labels.T].float() - mean
        if goal is not None:
            p = head(goal.flatten(0, 1)[rows].to(weight.dtype)).float().softmax(-1)
            found[0, rows] = ((q - p).to(weight.dtype) @ weight).float()
    gradients: Tensor = found.unflatten(1, hidden.shape[:2])
    return gradients


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cos over all but the last dimension (arXiv 2411.19146, section 5)."""
    return 1 - nn.functional.cosine_similarity(student.float(), teacher.float(), dim=-1).mean()
