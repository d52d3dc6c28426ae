"""Trials near the decision: solve, run what is chosen or could be, believe anew, solve again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.ir import Budget, Option, Problem, Solution
from nas.solvers import MipSolver
from nas.trials._belief import Belief, Floats, believe
from nas.trials._value import value_of_knowing

Measure = Callable[[Sequence[str]], Mapping[str, float]]
"""Names of candidates, `slot/variant` -> their real losses."""
_ROUNDS = 8
_NOTHING = 1e-4
"""Share of the objective that is not worth a trial."""


@dataclass(frozen=True)
class Trials:
    """What came of it: `names` of all candidates, what to believe of each, those that were run
    (`known`), and how many were run in each round."""

    names: tuple[str, ...]
    belief: Belief
    known: Mapping[str, float]
    rounds: tuple[int, ...]

    @property
    def means(self) -> dict[str, float]:
        """The loss to expect of each."""
        return dict(zip(self.names, self.belief.mean.tolist(), strict=True))


def try_nearby(
    problem: Problem,
    proxies: Mapping[str, float],
    measure: Measure,
    *,
    most: int,
    reach: float = 0.0,
    time_limit_s: float = 60.0,
) -> Trials:
    """Run at most `most` of the candidates `proxies` (`slot/variant` -> proxy of its loss).

    Each round believes what the trials so far say, solves `problem` with the expected losses, and
    runs what is worth most to know at the budgets' prices, in equal parts of `most`. It ends where
    all that is chosen has been run and nothing else is worth a trial, or `most` is reached. The
    budgets count as they are, and tighter and looser by the share `reach`. Options that are not
    candidates keep the loss they have in `problem`.
    """
    state = _State(problem, proxies, [1.0] if reach == 0 else [1.0, 1.0 - reach, 1.0 + reach])
    known: dict[str, float] = {}
    rounds: list[int] = []
    share = max(1, -(-most // _ROUNDS))
    while True:
        belief = state.believe(known)
        wanted = state.wanted(belief, known, time_limit_s)[: min(share, most - len(known))]
        if not wanted:
            return Trials(state.names, belief, known, tuple(rounds))
        known |= measure(wanted)
        rounds.append(len(wanted))


class _State:
    """The candidates as arrays, and the problem that their losses are put into."""

    def __init__(
        self, problem: Problem, proxies: Mapping[str, float], scales: Sequence[float]
    ) -> None:
        self._problem, self._scales = problem, scales
        places = [
            (number, slot, option)
            for number, (slot, options) in enumerate(problem.slots.items())
            for option in options
            if f"{slot}/{option.variant}" in proxies
        ]
        self.names = tuple(f"{slot}/{option.variant}" for _, slot, option in places)
        self._options = [option for _, _, option in places]
        self._slot: NDArray[np.int64] = np.array([n for n, _, _ in places], dtype=np.int64)
        self._slots = [slot for _, slot, _ in places]
        self._labels = [option.variant for option in self._options]
        self._proxy = np.array([proxies[name] for name in self.names])
        self._index = {name: i for i, name in enumerate(self.names)}

    def believe(self, known: Mapping[str, float]) -> Belief:
        by_index = {self._index[name]: loss for name, loss in known.items()}
        return believe(self._proxy, self._slots, self._labels, by_index)

    def wanted(self, belief: Belief, known: Mapping[str, float], time_limit_s: float) -> list[str]:
        """What to run next, the most urgent first: in each slot what is worth most to know, as it
        says something of its neighbours; then what is worth less, and the rest of what a solution
        chooses."""
        value = np.zeros(len(self.names))
        chosen: set[str] = set()
        objective = 0.0
        here = self._with(belief)
        for scale in self._scales:
            budgets = tuple(_scaled(budget, scale) for budget in here.budgets)
            scaled = here.model_copy(update={"budgets": budgets})
            solution = MipSolver().solve(scaled, time_limit_s=time_limit_s)
            if solution.status == "infeasible":
                continue
            chosen |= {f"{slot}/{variant}" for slot, variant in solution.choice.items()}
            value = np.maximum(value, self._value(belief, scaled, solution))
            objective = max(objective, solution.objective or 0.0)
        worth = [
            i
            for i in np.argsort(-value, kind="stable").tolist()
            if value[i] > _NOTHING * objective or self.names[i] in chosen
        ]
        places, seen = dict[int, int](), dict[int, int]()
        for i in worth:
            places[i] = seen.get(int(self._slot[i]), 0)
            seen[int(self._slot[i])] = places[i] + 1
        order = sorted(worth, key=lambda i: (places[i], -value[i]))
        return [self.names[i] for i in order if self.names[i] not in known]

    def _value(self, belief: Belief, problem: Problem, solution: Solution) -> Floats:
        prices = problem.prices(solution.duals)

        def priced(option: Option) -> float:
            return sum(price * option.costs[cost] for cost, price in prices.items())

        others = [
            min(
                (
                    option.loss + priced(option)
                    for option in options
                    if f"{slot}/{option.variant}" not in self._index
                ),
                default=np.inf,
            )
            for slot, options in problem.slots.items()
        ]
        at_prices = np.array([priced(option) for option in self._options])
        return value_of_knowing(belief, at_prices, self._slot, np.array(others))

    def _with(self, belief: Belief) -> Problem:
        """The problem with the expected losses."""
        losses = belief.mean.tolist()
        slots = {
            slot: tuple(
                option.model_copy(update={"loss": losses[self._index[name]]})
                if (name := f"{slot}/{option.variant}") in self._index
                else option
                for option in options
            )
            for slot, options in self._problem.slots.items()
        }
        return self._problem.model_copy(update={"slots": slots})


def _scaled(budget: Budget, scale: float) -> Budget:
    """The budget with `scale` times as much for the slots."""
    limit = budget.fixed + scale * (budget.limit - budget.fixed)
    return budget.model_copy(update={"limit": limit})
