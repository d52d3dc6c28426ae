"""Why nothing is within the limits, and what the tightest feasible values are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas._words import feasible, number
from nas.errors import InfeasibleError
from nas.search._costs import Costs


def explain(space: str, limits: Mapping[str, float], costs: Sequence[Costs]) -> InfeasibleError:
    """From the costs of all architectures that are known."""
    tightest = {
        name: min(cost[name] for cost in costs if name in cost)
        for name in limits
        if any(name in cost for cost in costs)
    }
    asked = ", ".join(f"{name} <= {number(limit)}" for name, limit in limits.items())
    if len(limits) == 1:
        hint = "the tightest feasible is " + _named(tightest)
    else:
        hint = "with the other limits kept, the tightest feasible is " + _named(
            {name: value for name in tightest for value in _with_others(name, limits, costs)}
        )
    return InfeasibleError(f"no architecture of {space} meets {asked}; {hint}", tightest)


def _with_others(name: str, limits: Mapping[str, float], costs: Sequence[Costs]) -> list[float]:
    """The least of one cost where all other limits are kept; empty where they never are."""
    others = {other: limit for other, limit in limits.items() if other != name}
    kept = [
        cost[name]
        for cost in costs
        if name in cost and all(cost.get(other, 0.0) <= limit for other, limit in others.items())
    ]
    return [min(kept)] if kept else []


def _named(values: Mapping[str, float]) -> str:
    return ", ".join(f"{k} {feasible(k, v)}" for k, v in values.items()) or "none of any"
