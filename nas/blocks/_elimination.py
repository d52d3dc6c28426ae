"""Backward elimination: which features to give up when the rest may be refitted.

Giving up the features B of a least-squares fit and refitting the others costs
tr(W_B' ((H^-1)_BB)^-1 W_B), with H the ridged Gram and W the current fit (optimal brain surgeon;
whole columns and heads: arXiv 2302.04089). Inverse and fit are downdated by block elimination, so
there is one inversion in all. The inverse itself stays as it is: what each step takes off it has
low rank and is kept in factors, and only the rows that a step asks for are made (as GPTQ's lazy
updates, arXiv 2210.17323).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

_WHOLE = 256
"""Rows of a matrix that is inverted without being halved."""


class Elimination:
    """Features [p] of a fit to targets [q]; those that are left stand in `alive`, ascending."""

    def __init__(self, gram: Tensor, fit: Tensor, ridge: float) -> None:
        hessian = gram.double()
        hessian = hessian + torch.diag_embed(ridge * hessian.diagonal().mean().expand(len(gram)))
        self._inverse, self._fit = _inverse(hessian), fit.to(torch.float64, copy=True)
        self._taken: list[tuple[Tensor, Tensor]] = []
        self._diagonal = self._inverse.diagonal().clone()
        self.alive = torch.arange(len(gram), device=gram.device)

    @classmethod
    def of_layer(cls, gram: Tensor, weight: Tensor, ridge: float) -> Self:
        """For a linear layer `weight` [q, p] that reads the features."""
        return cls(gram, weight.T, ridge)

    def single_costs(self, group: int = 1) -> Tensor:
        """What giving up each feature that is left would cost alone, or each `group` of features
        that stand side by side, where all that were given up were such groups."""
        if group == 1:
            costs: Tensor = self._fit[self.alive].pow(2).sum(1) / self._diagonal[self.alive]
            return costs
        return self._costs(self.alive.unflatten(0, (-1, group)))

    def cost(self, features: Tensor) -> float:
        """What giving up these features together would cost."""
        return float(self._costs(features[None]))

    def remove(self, features: Tensor) -> None:
        """Give the features up and refit the others."""
        across = self._rows(features).T
        within = across[features]
        both = torch.cat((across.T, self._fit[features]), dim=1)
        removed = torch.linalg.solve(within, both)
        self._taken.append((across, removed[:, : len(across)]))
        self._diagonal -= torch.linalg.vecdot(across, self._taken[-1][1].T)
        self._fit.addmm_(across, removed[:, len(across) :], alpha=-1)
        self.alive = self.alive[~torch.isin(self.alive, features)]

    def remove_cheapest(self, units: Sequence[Tensor]) -> int:
        """Give up the cheapest of several sets of features of one size; returns its index."""
        best = int(self._costs(torch.stack(list(units))).argmin())
        self.remove(units[best])
        return best

    def _costs(self, sets: Tensor) -> Tensor:
        """Of each set of features [sets, size]."""
        squares = self._inverse[sets[:, :, None], sets[:, None, :]]
        for across, removed in self._taken:
            squares -= across[sets] @ removed.T[sets].mT
        fit = self._fit[sets]
        costs: Tensor = (fit * torch.linalg.solve(squares, fit)).sum((1, 2))
        return costs

    def _rows(self, features: Tensor) -> Tensor:
        """Rows of the downdated inverse [features, p]."""
        rows = self._inverse[features]
        for across, removed in self._taken:
            rows.addmm_(across[features], removed, alpha=-1)
        return rows


def _inverse(hessian: Tensor) -> Tensor:
    """By halves and Cholesky factors, unless rounding has left the matrix indefinite."""
    found = _by_halves(hessian)
    plain: Tensor = torch.linalg.inv(hessian) if found is None else found
    return plain


def _by_halves(matrix: Tensor) -> Tensor | None:
    """Inverse of a positive definite matrix; None for another.

    A third more work than a factorisation of the whole, but nearly all of it is products, at four
    times the rate on a CPU.
    """
    half = len(matrix) // 2
    if len(matrix) <= _WHOLE:
        factor, failed = torch.linalg.cholesky_ex(matrix)
        whole: Tensor | None = None if failed else torch.cholesky_inverse(factor)
        return whole
    first = _by_halves(matrix[:half, :half])
    if first is None:
        return None
    across = first @ matrix[:half, half:]
    second = _by_halves(torch.addmm(matrix[half:, half:], across.T, matrix[:half, half:], alpha=-1))
    if second is None:
        return None
    inner = across @ second
    found = torch.empty_like(matrix)
    torch.addmm(first, inner, across.T, out=found[:half, :half])
    found[half:, half:] = second
    found[:half, half:] = inner.neg_()
    found[half:, :half] = inner.T
    return found
