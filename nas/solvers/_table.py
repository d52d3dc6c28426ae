"""A problem as arrays: every budget and every difference becomes a knapsack row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.errors import ConfigError
from nas.ir.problem import Budget, Problem
from nas.solvers._base import Difference

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDING = 1e-10
"""Share of a budget's magnitude that counts as rounding: ten times below the certificate's."""


@dataclass(frozen=True)
class Table:
    """Minimise `sum loss[pick]` with one pick a slot and `sum rows[:, pick] <= caps`.

    Options of all slots stand one after another: `loss` [options], `slot` [options], `start`
    [slots], `rows` [budgets + differences, options]. Row entries are >= 0 and the least of each
    slot is 0, so a negative cap is a proof that its budget cannot be met. `base` [rows, slots] is
    what was subtracted. A `min` budget enters with its sign turned.
    """

    slots: tuple[str, ...]
    variants: tuple[str, ...]
    start: Ints
    slot: Ints
    loss: Floats
    rows: Floats
    base: Floats
    caps: Floats
    budgets: tuple[str, ...]

    @property
    def options(self) -> int:
        return len(self.loss)

    def feasible(self, pick: Ints) -> bool:
        """Whether `pick` [slots], an option index for each slot, meets every row."""
        return bool(np.all(self.rows[:, pick].sum(axis=1) <= self.caps))

    def total_loss(self, pick: Ints) -> float:
        return math.fsum(self.loss[pick].tolist())

    def choice(self, pick: Ints) -> dict[str, str]:
        return {slot: self.variants[int(i)] for slot, i in zip(self.slots, pick, strict=True)}

    def pick(self, choice: Mapping[str, str]) -> Ints:
        """The option index of each slot: `choice` turned back; raises ConfigError."""
        names = [self.slots[i] for i in self.slot]
        index = {pair: i for i, pair in enumerate(zip(names, self.variants, strict=True))}
        try:
            found = [index[slot, choice[slot]] for slot in self.slots]
        except KeyError as error:
            raise ConfigError(f"start: the problem and the choice disagree on {error}") from None
        return np.array(found, dtype=np.int64)

    def slot_min(self, values: Floats) -> Floats:
        """Least value of each slot: [options] -> [slots]."""
        return np.asarray(np.minimum.reduceat(values, self.start), dtype=np.float64)

    def slot_argmin(self, values: Floats) -> Ints:
        """The first option of each slot that has the least value: [options] -> [slots]."""
        hits = np.flatnonzero(values <= self.slot_min(values)[self.slot])
        _, first = np.unique(self.slot[hits], return_index=True)
        return np.asarray(hits[first], dtype=np.int64)


def build_table(problem: Problem, forbid: Sequence[Difference] = ()) -> Table:
    """Turn a problem into arrays; raises ConfigError for budgets or differences without sense."""
    _check_budgets(problem.budgets)
    slots = tuple(problem.slots)
    sizes = np.array([len(problem.slots[slot]) for slot in slots], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    slot = np.repeat(np.arange(len(slots), dtype=np.int64), sizes)
    options = [option for name in slots for option in problem.slots[name]]
    raw, limits = [], []
    for budget in problem.budgets:
        sign = 1.0 if budget.sense == "max" else -1.0
        raw.append(sign * np.array([option.costs[budget.cost] for option in options]))
        limits.append(sign * (budget.limit - budget.fixed) + _rounding(raw[-1], start, budget))
    for difference in forbid:
        raw.append(_difference_row(problem, difference))
        limits.append(len(difference.choice) - difference.at_least + 0.5)
    rows = np.array(raw, dtype=np.float64).reshape(len(raw), len(options))
    base = np.minimum.reduceat(rows, start, axis=1) if len(raw) else np.zeros((0, len(slots)))
    caps = [math.fsum([limit, *(-base[k]).tolist()]) for k, limit in enumerate(limits)]
    return Table(
        slots=slots,
        variants=tuple(option.variant for option in options),
        start=start,
        slot=slot,
        loss=np.array([option.loss for option in options], dtype=np.float64),
        rows=rows - base[:, slot],
        base=base,
        caps=np.array(caps, dtype=np.float64),
        budgets=tuple(budget.name for budget in problem.budgets),
    )


def _rounding(raw: Floats, start: Ints, budget: Budget) -> float:
    largest = float(np.maximum.reduceat(np.abs(raw), start).sum())
    return _ROUNDING * (abs(budget.limit) + abs(budget.fixed) + largest)


def _check_budgets(budgets: Sequence[Budget]) -> None:
    seen: set[str] = set()
    fixed: dict[str, float] = {}
    for budget in budgets:
        if budget.name in seen:
            raise ConfigError(f"budgets.{budget.name}: given twice; keep one of them")
        seen.add(budget.name)
        if not (math.isfinite(budget.limit) and math.isfinite(budget.fixed)):
            raise ConfigError(f"budgets.{budget.name}: {budget.limit} is no limit; give a number")
        if fixed.setdefault(budget.cost, budget.fixed) != budget.fixed:
            raise ConfigError(
                f"budgets.{budget.name}: the fixed part of {budget.cost} is {budget.fixed} here "
                f"and {fixed[budget.cost]} in another budget; give both the same"
            )


def _difference_row(problem: Problem, difference: Difference) -> Floats:
    """1 for each option that the forbidden choice holds, 0 elsewhere."""
    for slot, variant in difference.choice.items():
        known = {option.variant for option in problem.slots.get(slot, ())}
        if variant not in known:
            raise ConfigError(f"difference: the problem has no option {slot}/{variant}")
    if difference.at_least > len(difference.choice):
        raise ConfigError(
            f"difference: {difference.at_least} slots asked to differ, but the choice names only "
            f"{len(difference.choice)}; ask for fewer"
        )
    return np.array(
        [
            float(difference.choice.get(slot) == option.variant)
            for slot, options in problem.slots.items()
            for option in options
        ]
    )
