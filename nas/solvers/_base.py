"""What every solver is: a problem in, an answer with its bound out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from nas.ir.problem import Problem, Solution

PROVEN_GAP = 1e-6
"""Largest relative gap that may be called proven, whatever gap a caller was content with."""


class Difference(BaseModel):
    """Differ from `choice` in at least `at_least` of the slots that it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choice: dict[str, str] = Field(min_length=1)
    at_least: int = Field(default=1, gt=0)


class Known(BaseModel):
    """What is proven before a solve: every feasible choice loses at least `bound`.

    `choice` is one to start from; where it breaks a budget it is repaired. `lp_gap` is how far the
    optimum of a similar problem lay above its LP bound: a guess where to look first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    choice: dict[str, str] | None = None
    bound: float | None = None
    lp_gap: float | None = Field(default=None, ge=0)

    def at_least(self, bound: float) -> float:
        """The better of the two bounds."""
        return bound if self.bound is None else max(bound, self.bound)


class Solver(ABC):
    """Finds one option a slot with a small summed loss under all budgets.

    An exact solver answers `proven` (gap <= 1e-6), `incumbent` (feasible, stopped by its time
    limit or content with a wider gap) or `infeasible` (proven that nothing meets the budgets).
    A heuristic answers `incumbent`, or `infeasible` where the LP relaxation proves it.
    """

    name: ClassVar[str]

    @abstractmethod
    def solve(
        self,
        problem: Problem,
        *,
        time_limit_s: float | None = None,
        gap: float = PROVEN_GAP,
        forbid: Sequence[Difference] = (),
        known: Known | None = None,
    ) -> Solution:
        """Solve `problem`.

        Args:
            problem: slots, options and budgets.
            time_limit_s: wall time after which the best answer so far is returned.
            gap: relative gap at which the search may stop.
            forbid: earlier choices that the answer must differ from.
            known: a proven bound and a choice to start from; a heuristic takes the bound only.

        Raises:
            ConfigError: the limit, the gap, a budget, a difference or a start makes no sense.
            PassError: no feasible choice was found, and none was proven impossible.
        """
