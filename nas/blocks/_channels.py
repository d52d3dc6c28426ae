"""Which intermediate channels to keep."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nas.blocks._elimination import Elimination


def contribution(gram: Tensor, down: Tensor) -> Tensor:
    """Root mean square of a channel times the norm of its column in the down projection.

    The quadratic form of the paper's |a_i| * ||W_down[:, i]|| (arXiv 2411.19146, section 3.2).
    """
    columns: Tensor = torch.linalg.vector_norm(down, dim=0)
    return gram.diagonal().clamp(min=0).sqrt() * columns


def elimination_order(
    gram: Tensor, down: Tensor, widths: Sequence[int], ridge: float, steps: int = 24
) -> dict[int, Tensor]:
    """Channel indices kept at each of `widths`, nested, by backward elimination.

    The rounds do not depend on which widths are asked for; at least `steps` of them lie between the
    full width and none.
    """
    elimination = Elimination.of_layer(gram, down, ridge)
    kept: dict[int, Tensor] = {}
    cut = max(1, gram.shape[0] // steps)
    while len(kept) < len(set(widths)):
        alive = elimination.alive
        order = elimination.single_costs().argsort(descending=True)
        left = max(0, len(alive) - cut)
        for width in widths:
            if left < width <= len(alive):
                kept[width] = alive[order[:width]].sort().values
        elimination.remove(alive[order[left:]].sort().values)
    return kept
