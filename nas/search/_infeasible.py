"""Why nothing is within the limits, and what the tightest feasible values are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas._words import feasible, number
from nas.errors import InfeasibleError
from nas.search._costs import Costs


def explain(space: str, limits: Mapping[str, float], costs: Sequence[Costs]) -> InfeasibleError:
    """From the costs of all architectures that are known."""
    tightest, lines = {}, []
    for name, limit in limits.items():
        known = [cost for cost in costs if name in cost]
        alone = min((cost[name] for cost in known), default=None)
        if alone is None:
            continue
        tightest[name] = alone
        others = {other: value for other, value in limits.items() if other != name}
        kept = [c[name] for c in known if all(c.get(o, 0.0) <= v for o, v in others.items())]
        words = f"{name} <= {number(limit)}: the tightest feasible is {feasible(name, alone)}"
        if others:
            with_others = feasible(name, min(kept)) if kept else "none"
            words += f" alone, {with_others} with the other limits kept"
        lines.append(words)
    what = "the limit" if len(limits) == 1 else "all limits"
    return InfeasibleError(
        f"no architecture of {space} meets {what}; " + "; ".join(lines), tightest
    )
