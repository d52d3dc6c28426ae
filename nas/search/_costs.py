"""What architectures cost: counted, looked up, or measured."""

from __future__ import annotations

from collections.abc import Mapping

from nas.errors import ConfigError
from nas.search._latency import LatencyConditions, LatencyMeter
from nas.search._table import CostColumns
from search_spaces import Choice, StudentSpace

COUNTED = ("params_m", "flops_m", "depth")
LATENCY = "latency_ms"

Costs = dict[str, float]


class CostBook:
    """Costs of the architectures of a space, and whether they are within the limits.

    `params_m`, `flops_m` (millions of multiply-accumulates) and `depth` are counted exactly; what
    else is limited comes from `table`, or is `latency_ms`, which `meter` measures.

    Raises ConfigError for a limit on a cost that nobody knows.
    """

    def __init__(
        self,
        space: StudentSpace,
        limits: Mapping[str, float],
        table: CostColumns | None = None,
        meter: LatencyMeter | None = None,
    ) -> None:
        self._space, self.limits = space, dict(limits)
        self._table, self._meter = table, meter
        self._looked_up = tuple(table.columns) if table else ()
        known = {*COUNTED, *self._looked_up, LATENCY}
        for name in limits:
            if name not in known:
                more = "" if table else "; --costs FILE adds the columns of a table"
                raise ConfigError(f"--max {name}: no such cost; known: {', '.join(known)}{more}")

    @property
    def measures(self) -> bool:
        """Whether candidates must be measured to know that they are within the limits."""
        return LATENCY in self.limits and LATENCY not in self._looked_up

    @property
    def conditions(self) -> LatencyConditions | None:
        """What `latency_ms` is measured under, where it is."""
        return self._meter.conditions if self.measures and self._meter else None

    def quick(self, choice: Choice) -> Costs:
        """Everything that is known without building the network."""
        spec = self._space.spec(choice)
        size = spec.size()
        costs = {
            "params_m": size.params / 1e6,
            "flops_m": size.flops / 1e6,
            "depth": float(spec.depth),
        }
        if self._table is not None:
            key = spec.key
            costs |= {name: self._table.cost(name, key) for name in self._looked_up}
        return costs

    def latency_ms(self, choice: Choice) -> float:
        """Measured now."""
        assert self._meter is not None
        return self._meter.measure(self._space.spec(choice).build(seed=0))

    def overspent(self, costs: Costs) -> tuple[float, ...]:
        """How far each limit is broken, relative to it; 0 where it is kept or not known yet."""
        return tuple(
            max(0.0, costs[name] / limit - 1) if name in costs else 0.0
            for name, limit in self.limits.items()
        )

    def fits(self, costs: Costs) -> bool:
        return not any(self.overspent(costs))
