"""The selection problem and its certified answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Status = Literal["proven", "incumbent", "infeasible"]


class Option(BaseModel):
    """One variant of a slot: its loss and its cost by name (the unit stands in the name)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    loss: float
    costs: dict[str, float]


class Budget(BaseModel):
    """`sum of costs[cost] + fixed <= limit` (`max`) or `>= limit` (`min`).

    `fixed` is what stands outside the slots, such as embedding and head. `name` is the budget as
    the user wrote it (`speedup`), `cost` the column it became (`prefill_ms`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    cost: str
    limit: float
    sense: Literal["max", "min"] = "max"
    fixed: float = 0.0


class Problem(BaseModel):
    """Pick exactly one option a slot: least summed loss under all budgets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slots: dict[str, tuple[Option, ...]]
    budgets: tuple[Budget, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.slots:
            raise ValueError("a problem needs at least one slot")
        needed = {budget.cost for budget in self.budgets}
        for slot, options in self.slots.items():
            if not options:
                raise ValueError(f"slot {slot} has no option")
            names = [option.variant for option in options]
            if len(set(names)) != len(names):
                raise ValueError(f"slot {slot} names a variant twice")
            for option in options:
                missing = needed - option.costs.keys()
                if missing:
                    raise ValueError(f"{slot}/{option.variant} lacks the cost {min(missing)}")
                for key, value in {"loss": option.loss, **option.costs}.items():
                    if not math.isfinite(value):
                        raise ValueError(f"{slot}/{option.variant}: {key} is {value}")
        return self

    def prices(self, duals: Mapping[str, float]) -> dict[str, float]:
        """Cost -> loss that a unit of it is worth; `duals`: budget -> the same for its limit."""
        found: dict[str, float] = {}
        for budget in self.budgets:
            sign = 1.0 if budget.sense == "max" else -1.0
            found[budget.cost] = found.get(budget.cost, 0.0) + sign * duals.get(budget.name, 0.0)
        return found


class Solution(BaseModel):
    """A choice with its certificate.

    `bound` is a proven lower bound on any feasible objective (from the LP relaxation or the
    branch-and-bound), `gap` = (objective - bound) / max(|objective|, tiny). `duals` is the loss
    saved by one more unit of each budget at the LP optimum (>= 0). `costs` are re-summed totals
    with the fixed part; `slack` is what is left of each budget (>= 0 when met). `realised_kl`: the
    KL of the whole network in nats a token, where it was run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    choice: dict[str, str] = Field(default_factory=dict)
    objective: float | None = None
    bound: float | None = None
    lp_bound: float | None = None
    gap: float | None = None
    costs: dict[str, float] = Field(default_factory=dict)
    slack: dict[str, float] = Field(default_factory=dict)
    duals: dict[str, float] = Field(default_factory=dict)
    tightest: dict[str, float] = Field(default_factory=dict)
    realised_kl: float | None = None
    solver: str
    seconds: float

    @property
    def proven(self) -> bool:
        return self.status == "proven"


class RefineStep(BaseModel):
    """A choice that was run. `expected_kl` is what the expansion about the last kept choice says;
    `kept`: it became the present choice. Round 0 is the start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    radius: int
    moved_slots: int
    expected_kl: float
    realised_kl: float
    kept: bool
    choice: dict[str, str]
