"""Which intermediate channels to keep."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def contribution(gram: Tensor, down: Tensor) -> Tensor:
    """Root mean square of a channel times the norm of its column in the down projection.

    The quadratic form of the paper's |a_i| * ||W_down[:, i]|| (arXiv 2411.19146, section 3.2).
    """
    columns: Tensor = torch.linalg.vector_norm(down, dim=0)
    return gram.diagonal().clamp(min=0).sqrt() * columns


def elimination_order(
    gram: Tensor, down: Tensor, widths: Sequence[int], ridge: float, steps: int = 24
) -> dict[int, Tensor]:
    """Channel indices kept at each of `widths` (descending), nested, by backward elimination.

    Removing channel i and refitting the rest costs |w_i|^2 / (H^-1)_ii, with H the ridged Gram and
    w_i the column of the current refit (optimal brain surgeon; whole columns: arXiv 2302.04089).
    At most `steps` rounds lie between the full width and none, each with a fresh inverse.
    """
    total = gram.shape[0]
    hessian = gram.double()
    hessian = hessian + ridge * hessian.diagonal().mean() * torch.eye(total, dtype=hessian.dtype)
    target = hessian @ down.double().T
    alive = torch.arange(total)
    kept: dict[int, Tensor] = {}
    largest_cut = max(1, total // steps)
    for width in sorted(widths, reverse=True):
        while len(alive) > width:
            inverse = torch.linalg.inv(hessian[alive][:, alive])
            refit = inverse @ target[alive]
            price = refit.pow(2).sum(1) / inverse.diagonal()
            cut = min(largest_cut, len(alive) - width)
            alive = alive[price.argsort(descending=True)[: len(alive) - cut]].sort().values
        kept[width] = alive
    return kept
