"""Ridge regression from Gram matrices, in float64 where the conditioning asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nas.errors import PassError

_CHUNKS = 8
"""Chunks whose products are added up in the targets' type before they go to float64."""
_ROWS = 192
"""Rows of a Gram matrix that are multiplied at once, from the diagonal on: it is symmetric."""


class Moments:
    """Second moments of features [samples, p] and targets [samples, q].

    Products are summed in the targets' type over a few chunks, and these sums in float64.
    """

    def __init__(
        self,
        gram: Tensor,
        cross: Tensor,
        feature_sum: Tensor,
        target_sum: Tensor,
        count: float = 0,
    ) -> None:
        self._gram, self._cross = gram, cross
        self.feature_sum, self.target_sum, self.count = feature_sum, target_sum, count
        self._fresh: tuple[Tensor, Tensor] | None = None
        self._chunks = 0

    @classmethod
    def zeros(cls, features: int, targets: int, like: Tensor) -> Moments:
        return cls(
            like.new_zeros(features, features, dtype=torch.float64),
            like.new_zeros(features, targets, dtype=torch.float64),
            like.new_zeros(features, dtype=torch.float64),
            like.new_zeros(targets, dtype=torch.float64),
        )

    @property
    def gram(self) -> Tensor:
        """Products of features [p, p]."""
        self._settle()
        return self._gram

    @property
    def cross(self) -> Tensor:
        """Products of features with targets [p, q]."""
        self._settle()
        return self._cross

    def add(self, features: Tensor, targets: Tensor, weight: Tensor | None = None) -> None:
        """Add a chunk, leading dimensions flattened. `weight` [..., 1]: how much a row counts."""
        features, targets = features.flatten(0, -2), targets.flatten(0, -2)
        wide = features.to(targets.dtype)
        if weight is None:
            left, weighted = wide, targets
            self.count += len(features)
        else:
            rows = weight.flatten(0, -2)
            left, weighted = wide * rows, targets * rows
            self.count += float(rows.sum())
        if self._fresh is None:
            self._fresh = (
                torch.zeros_like(self._gram, dtype=targets.dtype),
                torch.zeros_like(self._cross, dtype=targets.dtype),
            )
        gram, cross = self._fresh
        with _rate_of(features if weight is None else wide):
            for i in range(0, len(gram), _ROWS):
                gram[i : i + _ROWS, i:].addmm_(left[:, i : i + _ROWS].T, wide[:, i:])
            cross.addmm_(left.T, targets)
        self.feature_sum += left.sum(0)
        self.target_sum += weighted.sum(0)
        self._chunks += 1
        if self._chunks % _CHUNKS == 0:
            self._settle()

    def of(self, features: Tensor) -> Moments:
        """The moments of some of the features alone."""
        return Moments(
            self.gram[features][:, features],
            self.cross[features],
            self.feature_sum[features],
            self.target_sum,
            self.count,
        )

    def _settle(self) -> None:
        if self._fresh is not None:
            gram, cross = self._fresh
            self._fresh = None
            for i in range(_ROWS, len(gram), _ROWS):
                gram[i:, i - _ROWS : i] = gram[i - _ROWS : i, i:].T
            self._gram += gram
            self._cross += cross


@contextmanager
def _rate_of(features: Tensor) -> Iterator[None]:
    """On a CPU, float32 products of bfloat16 features at the rate of bfloat16, summed in float32.

    Their own products are exact. Targets are rounded by one part in 512, at random: over n samples
    that is some 1/900 of the error that n samples leave in a cross moment anyway.
    """
    before = torch.get_float32_matmul_precision()
    if features.dtype == torch.bfloat16 and features.device.type == "cpu":
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def solve(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """Weight [q, p] that minimises |F W' - T|^2 + penalty |W|^2.

    `ridge` is relative: the penalty is `ridge` times the mean of the Gram's diagonal. Where
    rounding has left the matrix indefinite it is raised tenfold at a time, up to a PassError.
    """
    wide = gram.double()
    penalty = ridge * wide.diagonal().mean().clamp(min=1e-12)
    for _ in range(8):
        damped = wide.clone()
        damped.diagonal().add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(damped)
        del damped  # one more matrix of the width squared would be the peak of a slot
        if not failed:
            return torch.cholesky_solve(cross.double(), factor).T.to(gram.dtype)
        penalty = 10 * penalty
    raise PassError(
        "the activations are too ill-conditioned to regress on; raise the ridge "
        "(build.ridge, or assemble.ridge for a refit)"
    )


def fit_output(layer: nn.Linear, moments: Moments, ridge: float) -> None:
    """Regress a layer anew in place, its bias too where it has one."""
    if layer.bias is None:
        layer.weight.copy_(solve(moments.gram, moments.cross, ridge))
        return
    weight, bias = solve_affine(moments, ridge)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def solve_affine(moments: Moments, ridge: float) -> tuple[Tensor, Tensor]:
    """Weight [q, p] and bias [q] of the regression with an unpenalised intercept."""
    n = moments.count or 1
    mean_f, mean_t = moments.feature_sum / n, moments.target_sum / n
    gram = torch.addr(moments.gram, mean_f, mean_f, alpha=-n)
    cross = torch.addr(moments.cross, mean_f, mean_t, alpha=-n)
    weight = solve(gram, cross, ridge)
    return weight, mean_t - weight @ mean_f
