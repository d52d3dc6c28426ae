"""What every model of measurement noise is: losses drawn anew, and the spread of a sum of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nas.ir.problem import Problem

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Spread(NamedTuple):
    """Standard error of a loss, and the degrees of freedom that it was estimated with."""

    standard_error: float
    degrees: float


class Noise(ABC):
    """How the losses of a problem would differ, had they been measured again.

    Options are counted over all slots, in the order of the problem. `losses` [options] are those
    that were measured. `basis` says in words what the noise was read from; `sequences` is their
    number where there are any.
    """

    basis: str
    sequences: int | None = None

    def __init__(self, problem: Problem) -> None:
        losses = [option.loss for options in problem.slots.values() for option in options]
        self.losses: Floats = np.array(losses, dtype=np.float64)

    @abstractmethod
    def draws(self, count: int, generator: np.random.Generator) -> Floats:
        """Losses measured anew: [count, options]."""

    @abstractmethod
    def spread(self, options: Ints) -> Spread:
        """Of the summed loss of `options` (one, or a pick of one a slot)."""
