"""Noise that is only known as a share of each loss."""

from __future__ import annotations

import math

import numpy as np

from nas.errors import ConfigError
from nas.ir.problem import Problem
from nas.uncertainty._base import Floats, Ints, Noise, Spread


class RelativeNoise(Noise):
    """Every loss has an independent normal error of `share` times its size (parametric bootstrap).

    Errors of blocks that were scored on the same text mostly agree in sign; where that holds, the
    interval of a sum is too narrow, and per-sequence scores are the remedy.
    """

    def __init__(self, problem: Problem, share: float) -> None:
        """Raises ConfigError unless 0 < `share` < 1."""
        if not 0 < share < 1:
            raise ConfigError(f"--noise {share:g}: give a share above 0 and below 1, such as 0.05")
        super().__init__(problem)
        self._share = share
        self.basis = f"a noise of {100 * share:g} % on every loss"

    def draws(self, count: int, generator: np.random.Generator) -> Floats:
        errors = generator.standard_normal((count, len(self.losses)))
        return np.asarray(self.losses * (1 + self._share * errors), dtype=np.float64)

    def spread(self, options: Ints) -> Spread:
        return Spread(self._share * float(np.linalg.norm(self.losses[options])), math.inf)
