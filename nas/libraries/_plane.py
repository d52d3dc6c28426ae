"""What a sweep over two budgets looks like from above."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A swept budget: `values` as the user wrote them, called `name`, and the `limits` on the cost
    of the budget `budget` that they mean."""

    name: str
    values: tuple[float, ...]
    budget: str
    limits: tuple[float, ...]


@dataclass(frozen=True)
class Plane:
    """The least loss for each pair of limits, `losses[i][j]` for the i-th value of `down` and the
    j-th of `across`; None where nothing is feasible, or nothing was found."""

    down: Axis
    across: Axis
    losses: tuple[tuple[float | None, ...], ...]
