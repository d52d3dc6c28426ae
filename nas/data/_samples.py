"""What a sample is: a row of token ids, or a picture."""

from __future__ import annotations

import torch
from torch import Tensor


def tokens_a_sample(samples: Tensor) -> int:
    """Tokens of a row of ids [samples, tokens]; a picture [samples, 3, h, w] counts as one."""
    return samples.shape[1] if samples.ndim == 2 else 1


def augmented(samples: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Pictures of bytes [samples, 3, side, side], moved by up to `padding` pixels each way with
    black at the edges, and mirrored half of the time; texts as they are."""
    if samples.ndim == 2:
        return samples
    count, side = len(samples), samples.shape[-1]
    padded = torch.nn.functional.pad(samples, (padding,) * 4)
    down, right = torch.randint(2 * padding + 1, (2, count), generator=generator)
    steps = torch.arange(side)
    mirrored = torch.rand(count, generator=generator) < 0.5
    across = torch.where(mirrored[:, None], steps.flip(0), steps) + right[:, None]
    rows = (steps + down[:, None])[:, None, :, None]
    which = torch.arange(count)[:, None, None, None]
    return padded[which, torch.arange(3)[:, None, None], rows, across[:, None, None, :]]
