"""Where strategies try architectures: costs first, proxies only for what is within the limits."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nas.errors import InfeasibleError
from nas.progress import Advance
from nas.proxies import Combination, Score
from nas.proxies._combination import How
from nas.search._costs import LATENCY, CostBook, Costs
from nas.search._journal import Journal
from nas.search._scorer import Scorer
from search_spaces import Choice, StudentSpace

_MOST_LISTED = 200_000
"""Spaces up to this many architectures are counted through before a search."""
_TRIES = 2_000


def _ignored(steps: int) -> None:
    del steps


@dataclass(frozen=True)
class Scored:
    """An architecture within the limits; `scores` has one a proxy."""

    choice: Choice
    key: str
    costs: Costs
    scores: dict[str, Score]

    def value(self, proxy: str) -> float:
        """The mean over the sittings; NaN where it is not defined in any."""
        return self.scores[proxy].value


@dataclass
class Arena:
    """The space as a strategy sees it; `trials` is how many architectures may be scored."""

    space: StudentSpace
    costs: CostBook
    scorer: Scorer
    journal: Journal
    trials: int
    how: How = "ranks"
    advance: Advance = _ignored
    scored: dict[Choice, Scored] = field(default_factory=dict)
    refused: dict[Choice, Costs] = field(default_factory=dict)
    """What was measured to be over a limit."""
    fitting: list[Choice] | None = None
    """All that is within the limits that need no measuring; None for a space too large to list."""

    def __post_init__(self) -> None:
        if self.space.count <= _MOST_LISTED:
            quick, fits = self.costs.quick, self.costs.fits
            self.fitting = [c for c in self.space.choices() if fits(quick(c))]

    @property
    def left(self) -> int:
        """How many architectures may still be tried; one that was measured in vain counts, too."""
        room = self.trials if self.fitting is None else min(self.trials, len(self.fitting))
        return room - len(self.scored) - len(self.refused)

    def visit(self, choices: Iterable[Choice]) -> list[Scored | None]:
        """Score what is within the limits and new, as far as trials are left; None for the rest."""
        return [self._one(choice) for choice in choices]

    def standing(self, scored: Sequence[Scored]) -> list[float]:
        """Where each stands among the others over all proxies, higher is better."""
        names = self.scorer.names
        columns = {name: [entry.value(name) for entry in scored] for name in names}
        return Combination(names, self.how).combine(columns)

    def overspent(self, choice: Choice) -> tuple[float, ...]:
        """How far each limit is broken, relative to it; 0 where it is kept."""
        return self.costs.overspent(self.refused.get(choice) or self.costs.quick(choice))

    def random(self, rng: random.Random) -> Choice:
        """An architecture within the limits that need no measuring, a new one where there is one.

        Raises InfeasibleError where the space is too large to list and none is found.
        """
        for _ in range(_TRIES):
            choice = self.space.sample(rng) if self.fitting is None else rng.choice(self.fitting)
            if not self._known(choice) and self.costs.fits(self.costs.quick(choice)):
                return choice
        new = [choice for choice in self.fitting or () if not self._known(choice)]
        if not new:
            raise InfeasibleError(
                f"no architecture within the limits among {_TRIES:,} of {self.space.count:,} that "
                "were drawn at random; widen the limits"
            )
        return rng.choice(new)

    def _known(self, choice: Choice) -> bool:
        return choice in self.scored or choice in self.refused

    def _one(self, choice: Choice) -> Scored | None:
        if choice in self.scored:
            return self.scored[choice]
        if choice in self.refused or self.left <= 0:
            return None
        costs, key = self.costs.quick(choice), self.space.key(choice)
        if self.costs.measures and self.costs.fits(costs):
            costs[LATENCY] = self._latency(choice, key)
        if not self.costs.fits(costs):
            if LATENCY in costs:
                self.refused[choice] = costs
            return None
        scores = {name: self._score(choice, key, name) for name in self.scorer.names}
        self.scored[choice] = Scored(choice, key, costs, scores)
        self.advance(1)
        return self.scored[choice]

    def _latency(self, choice: Choice, key: str) -> float:
        conditions = self.costs.conditions
        assert conditions is not None
        known = self.journal.get(key, conditions.name)
        if known is None:
            started = time.perf_counter()
            measured = self.costs.latency_ms(choice)
            known = Score((measured,), time.perf_counter() - started)
            self.journal.add(key, conditions.name, known)
        return known.value

    def _score(self, choice: Choice, key: str, name: str) -> Score:
        known = self.journal.get(key, name)
        if known is None:
            known = self.scorer.score(choice, name)
            self.journal.add(key, name, known)
        return known
