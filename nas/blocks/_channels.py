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
    gram: Tensor,
    down: Tensor,
    widths: Sequence[int],
    ridge: float,
    steps: int = 24,
    features: int = 1,
) -> dict[int, Tensor]:
    """Channel indices kept at each of `widths`, nested, by backward elimination.

    The rounds do not depend on which widths are asked for; at least `steps` of them lie between the
    full width and none. `down` [outputs, channels * features] reads each channel as so many
    features, side by side.
    """
    elimination = Elimination.of_layer(gram, down, ridge)
    kept: dict[int, Tensor] = {}
    cut = max(1, gram.shape[0] // features // steps)
    while len(kept) < len(set(widths)):
        alive = elimination.alive[::features] // features
        order = elimination.single_costs(features).argsort(descending=True)
        left = max(0, len(alive) - cut)
        for width in widths:
            if left < width <= len(alive):
                kept[width] = alive[order[:width]].sort().values
        elimination.remove(features_of(alive[order[left:]].sort().values, features))
    return kept


def features_of(channels: Tensor, features: int) -> Tensor:
    """Indices of the features of channels that have `features` each, side by side."""
    within = torch.arange(features, device=channels.device)
    return (channels[:, None] * features + within).flatten()
