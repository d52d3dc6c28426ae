"""Backward elimination: which features to give up when the rest may be refitted.

Giving up the features B of a least-squares fit and refitting the others costs
tr(W_B' ((H^-1)_BB)^-1 W_B), with H the ridged Gram and W the current fit (optimal brain surgeon;
whole columns and heads: arXiv 2302.04089). Inverse and fit are downdated by block elimination, so
there is one inversion in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor


class Elimination:
    """Features [p] of a fit to targets [q]; those that are left stand in `alive`, ascending."""

    def __init__(self, gram: Tensor, fit: Tensor, ridge: float) -> None:
        hessian = gram.double()
        hessian = hessian + torch.diag_embed(ridge * hessian.diagonal().mean().expand(len(gram)))
        self._inverse, self._fit = _inverse(hessian), fit.double()
        self.alive = torch.arange(len(gram), device=gram.device)

    @classmethod
    def of_layer(cls, gram: Tensor, weight: Tensor, ridge: float) -> Self:
        """For a linear layer `weight` [q, p] that reads the features."""
        return cls(gram, weight.T, ridge)

    def single_costs(self, group: int = 1) -> Tensor:
        """What giving up each feature that is left would cost alone, or each `group` of features
        that stand side by side, where all that were given up were such groups."""
        if group == 1:
            costs: Tensor = self._fit.pow(2).sum(1) / self._inverse.diagonal()
            return costs
        square = self._inverse.unflatten(0, (-1, group)).unflatten(2, (-1, group))
        blocks = square.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        fit = self._fit.unflatten(0, (-1, group))
        together: Tensor = (fit * torch.linalg.solve(blocks, fit)).sum((1, 2))
        return together

    def cost(self, features: Tensor) -> float:
        """What giving up these features together would cost."""
        at = self._positions(features)
        fit = self._fit[at]
        return float((fit * torch.linalg.solve(self._inverse[at][:, at], fit)).sum())

    def remove(self, features: Tensor) -> None:
        """Give the features up and refit the others."""
        leave = self._positions(features)
        keep = torch.ones(len(self.alive), dtype=torch.bool, device=self.alive.device)
        keep[leave] = False
        stay = keep.nonzero().squeeze(1)
        across = self._inverse[stay][:, leave]
        both = torch.cat((across.T, self._fit[leave]), dim=1)
        removed = torch.linalg.solve(self._inverse[leave][:, leave], both)
        left = self._inverse.index_select(0, stay).index_select(1, stay)
        self._inverse = left.addmm_(across, removed[:, : len(stay)], alpha=-1)
        self._fit = self._fit[stay].addmm_(across, removed[:, len(stay) :], alpha=-1)
        self.alive = self.alive[stay]

    def remove_cheapest(self, units: Sequence[Tensor]) -> int:
        """Give up the cheapest of several sets of features; returns its index."""
        costs = [self.cost(unit) for unit in units]
        best = min(range(len(costs)), key=costs.__getitem__)
        self.remove(units[best])
        return best

    def _positions(self, features: Tensor) -> Tensor:
        return torch.searchsorted(self.alive, features)


def _inverse(hessian: Tensor) -> Tensor:
    """By its Cholesky factor, at half the work, unless rounding has left it indefinite."""
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if failed:
        plain: Tensor = torch.linalg.inv(hessian)
        return plain
    found: Tensor = torch.cholesky_inverse(factor)
    return found
