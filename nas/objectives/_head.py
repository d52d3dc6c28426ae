"""The KL at a large vocabulary's head and its gradients, in chunks of rows.

The student's float32 logits [rows, vocab] and their gradient never outlive a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.objectives._kl import ROWS

_GRADIENT_ROWS = 512
"""Each product lays the whole head out anew for the processor: one for many rows."""
_CACHED_ROWS = 8
"""Rows whose probabilities a CPU works on at a time: a few MiB, which stay in a core's cache."""


@dataclass(frozen=True)
class HeadGoal:
    """The teacher's distribution over rows, made once for all students that learn from it.

    `logits`: chunks [ROWS, vocab] in the number format of the teacher's head; `lse` [rows, 1]: the
    logarithm of the sum of their exponentials, in float32.
    """

    logits: tuple[Tensor, ...]
    lse: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, hidden: Tensor, weight: Tensor) -> HeadGoal:
        """From the inputs of the head [rows, hidden] and its weight [vocab, hidden]."""
        chunks = tuple(rows.to(weight.dtype) @ weight.T for rows in hidden.split(ROWS))
        return cls(chunks, torch.cat([c.float().logsumexp(-1, keepdim=True) for c in chunks]))


class _HeadKl(torch.autograd.Function):
    """Mean KL(teacher || student) over rows, with the gradient made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, weight: Tensor, goal: HeadGoal) -> Tensor:
        needs_weight = weight.requires_grad
        low = goal.logits[0].dtype
        # float16 would lose the gradient's small entries
        low = torch.bfloat16 if low == torch.float16 else low
        cast = weight.to(low)
        grad_hidden = torch.empty_like(student)
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        total = student.new_zeros((), dtype=torch.float32)
        # Buffers that every chunk uses again: fresh memory of this size costs more than the sums.
        few = _CACHED_ROWS if student.device.type == "cpu" else ROWS
        buffers = student.new_empty(3, few, weight.shape[0], dtype=torch.float32)
        low_grads = student.new_empty(ROWS, weight.shape[0], dtype=low)
        for k, i in enumerate(range(0, len(student), ROWS)):
            rows = slice(i, i + ROWS)
            hidden = student[rows].to(low)
            low_grad = low_grads[: len(hidden)]
            total += _chunk(hidden @ cast.T, goal.logits[k], goal.lse[rows], low_grad, buffers)
            grad_hidden[rows] = low_grad @ cast
            if grad_weight is not None:
                grad_weight += (low_grad.T @ hidden).to(weight.dtype)
        ctx.save_for_backward(grad_hidden, *([] if grad_weight is None else [grad_weight]))
        ctx.rows = len(student)
        return total / len(student)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        scale = upstream[0] / ctx.rows
        grad_hidden, *rest = ctx.saved_tensors
        grad_weight = rest[0] * scale if rest else None
        return grad_hidden * scale, grad_weight, None


def _chunk(logits: Tensor, goal: Tensor, goal_lse: Tensor, grad: Tensor, buffers: Tensor) -> Tensor:
    """Summed KL of a chunk; its gradient q - p [rows, vocab] goes to `grad`."""
    lost = buffers.new_zeros(())
    for i in range(0, len(logits), buffers.shape[1]):
        few = slice(i, i + buffers.shape[1])
        lost += _part(logits[few], goal[few], goal_lse[few], grad[few], buffers)
    return lost


def _part(logits: Tensor, goal: Tensor, goal_lse: Tensor, grad: Tensor, buffers: Tensor) -> Tensor:
    q, p, gap = (buffer[: len(logits)] for buffer in buffers)
    top = q.copy_(logits).amax(-1, keepdim=True)
    total = q.sub_(top).exp_().sum(-1, keepdim=True)
    q.div_(total)
    p.copy_(goal).sub_(goal_lse).exp_()
    # sum p (log p - log q), the normalisers apart
    mean_gap = gap.copy_(goal).sub_(logits).mul_(p).sum()
    lost: Tensor = mean_gap + (top + total.log() - goal_lse).sum()
    grad.copy_(q.sub_(p))
    return lost


def head_kl(student: Tensor, weight: Tensor, goal: HeadGoal) -> Tensor:
    """Mean KL(teacher || softmax(student W')) over rows [rows, hidden], in nats.

    Differentiable in `student` and, where it asks for a gradient, in `weight` [vocab, hidden].
    """
    loss: Tensor = _HeadKl.apply(student, weight, goal)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def head_gradients(
    hidden: Tensor, goal: Tensor | None, head: nn.Linear, draws: int, generator: torch.Generator
) -> Tensor:
    """Gradients with respect to the head's input [rows, sequences, tokens, hidden], in float32.

    The last `draws` rows are those of the summed log q(y|x), each with labels y of its own, drawn
    from the network's prediction q. Where `goal`, the teacher's input of the head, is given, a row
    stands before them: the gradient of the summed KL(teacher || network). Only the difference of
    the two inputs passes through the head in low precision, as in `ReferenceKl`.
    """
    flat, weight = hidden.flatten(0, 1), head.weight
    first = 0 if goal is None else 1
    found = torch.zeros(first + draws, *flat.shape, device=flat.device)
    for i in range(0, len(flat), _GRADIENT_ROWS):
        rows = slice(i, i + _GRADIENT_ROWS)
        if goal is None:
            q = head(flat[rows].to(weight.dtype)).float().softmax(-1)
        else:
            wanted = goal.flatten(0, 1)[rows]
            logits = head(wanted.to(weight.dtype)).float()
            q = (logits + head((flat[rows] - wanted).to(weight.dtype)).float()).softmax(-1)
            found[0, rows] = ((q - logits.softmax(-1)).to(weight.dtype) @ weight).float()
        mean = (q.to(weight.dtype) @ weight).float()
        labels = torch.multinomial(q, draws, replacement=True, generator=generator)
        found[first:, rows] = weight[labels.T].float() - mean
    gradients: Tensor = found.unflatten(1, hidden.shape[:2])
    return gradients
