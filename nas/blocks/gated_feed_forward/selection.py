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
    The rounds do not depend on which widths are asked for; at least `steps` of them lie between the
    full width and none. Inverse and refit are downdated by block elimination, so there is one
    inversion in all.
    """
    total = gram.shape[0]
    hessian = gram.double()
    hessian = hessian + torch.diag_embed(ridge * hessian.diagonal().mean().expand(total))
    inverse, refit = torch.linalg.inv(hessian), down.double().T
    alive = torch.arange(total, device=gram.device)
    kept: dict[int, Tensor] = {}
    cut = max(1, total // steps)
    while len(kept) < len(set(widths)):
        order = (refit.pow(2).sum(1) / inverse.diagonal()).argsort(descending=True)
        left = max(0, len(alive) - cut)
        for width in widths:
            if left < width <= len(alive):
                kept[width] = alive[order[:width]].sort().values
        stay = order[:left].sort().values
        inverse, refit = _without(inverse, refit, stay, order[left:])
        alive = alive[stay]
    return kept


def _without(inverse: Tensor, refit: Tensor, stay: Tensor, leave: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse and refit after the channels `leave` are gone (block elimination)."""
    across = inverse[stay][:, leave]
    both = torch.cat((across.T, refit[leave]), dim=1)
    removed = torch.linalg.solve(inverse[leave][:, leave], both)
    return (
        inverse[stay][:, stay] - across @ removed[:, : len(stay)],
        refit[stay] - across @ removed[:, len(stay) :],
    )
