"""Ridge regression from Gram matrices, in float64 where the conditioning asks for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """Second moments of features [samples, p] and targets [samples, q], summed over chunks."""

    gram: Tensor
    cross: Tensor
    feature_sum: Tensor
    target_sum: Tensor
    count: int = 0

    @classmethod
    def zeros(cls, features: int, targets: int, like: Tensor) -> Moments:
        return cls(
            like.new_zeros(features, features),
            like.new_zeros(features, targets),
            like.new_zeros(features),
            like.new_zeros(targets),
        )

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Add a chunk; leading dimensions are flattened."""
        features, targets = features.flatten(0, -2), targets.flatten(0, -2)
        self.gram.addmm_(features.T, features)
        self.cross.addmm_(features.T, targets)
        self.feature_sum += features.sum(0)
        self.target_sum += targets.sum(0)
        self.count += features.shape[0]


def solve(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """Weight [q, p] that minimises |F W' - T|^2 + penalty |W|^2.

    `ridge` is relative: the penalty is `ridge` times the mean of the Gram's diagonal.
    """
    wide = gram.double()
    penalty = ridge * wide.diagonal().mean().clamp(min=1e-12)
    wide = wide + penalty * torch.eye(wide.shape[0], dtype=wide.dtype, device=wide.device)
    solution = torch.cholesky_solve(cross.double(), torch.linalg.cholesky(wide))
    return solution.T.to(gram.dtype)


def solve_affine(moments: Moments, ridge: float) -> tuple[Tensor, Tensor]:
    """Weight [q, p] and bias [q] of the regression with an unpenalised intercept."""
    n = max(moments.count, 1)
    mean_f, mean_t = moments.feature_sum / n, moments.target_sum / n
    gram = moments.gram - n * torch.outer(mean_f, mean_f)
    cross = moments.cross - n * torch.outer(mean_f, mean_t)
    weight = solve(gram, cross, ridge)
    return weight, mean_t - weight @ mean_f
