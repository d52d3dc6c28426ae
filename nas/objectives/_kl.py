"""KL divergences over a large vocabulary, in chunks of rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 128
_CACHED_BYTES = 2**29
_CACHED_ROWS = 8
"""Rows whose logits a CPU works on at a time: a few MiB, which stay in a core's cache."""


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
        size = _CACHED_ROWS if moved.device.type == "cpu" else ROWS
        result = torch.empty(len(moved), device=moved.device)
        for k, i in enumerate(range(0, len(moved), ROWS)):
            rows = slice(i, i + ROWS)
            p = self._distribution(i) if self._kept is None else self._kept[k]
            difference = (moved[rows] - self._flat[rows]).to(head.weight.dtype)
            delta = head(difference)
            for found, few, part in zip(
                result[rows].split(size), p.split(size), delta.split(size), strict=True
            ):
                found.copy_(_kl_from_difference(few, part.float()))
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


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cos over all but the last dimension (arXiv 2411.19146, section 5)."""
    return 1 - nn.functional.cosine_similarity(student.float(), teacher.float(), dim=-1).mean()
