"""DisWOT's evolution (Dong, Li and Wei 2023, arXiv 2303.15678), as its paper describes it."""

from __future__ import annotations

import random
from typing import ClassVar

from nas.errors import ConfigError
from nas.search._arena import Arena, Scored
from nas.search._base import Strategy
from search_spaces import Choice

_ATTEMPTS = 50


class Evolution(Strategy):
    """Tournaments on a steady population: the best of `sample` is the parent, its mutant joins,
    the worst of the population leaves.

    Only proxies and limits decide; no accuracy is looked at, and parents come from the whole
    population.
    """

    name: ClassVar[str] = "evolution"

    def __init__(self, population: int = 36, sample: int = 8) -> None:
        if not 1 <= sample <= population:
            raise ConfigError("strategy evolution: give 1 <= sample <= population")
        self._population, self._sample = population, sample

    def explore(self, arena: Arena, rng: random.Random) -> None:
        population: list[Scored] = []
        while arena.left > 0 and len(population) < self._population:
            self._join(population, arena, arena.random(rng))
        while arena.left > 0:
            places = rng.sample(range(len(population)), min(self._sample, len(population)))
            ranks = arena.standing(population)
            parent = population[max(places, key=lambda i: ranks[i])]
            self._join(population, arena, self._child(parent.choice, arena, rng))
            if len(population) > self._population:
                ranks = arena.standing(population)
                population.pop(min(range(len(population)), key=lambda i: ranks[i]))

    @staticmethod
    def _join(population: list[Scored], arena: Arena, choice: Choice) -> None:
        (scored,) = arena.visit([choice])
        if scored is not None and all(scored.choice != member.choice for member in population):
            population.append(scored)

    @staticmethod
    def _child(parent: Choice, arena: Arena, rng: random.Random) -> Choice:
        """A new mutant within the limits: near the parent, or farther where all near are known."""
        choice = parent
        for _ in range(_ATTEMPTS):
            mutant = arena.space.mutate(choice, rng)
            if mutant in arena.scored or mutant in arena.refused:
                choice = mutant
            elif not any(arena.overspent(mutant)):
                return mutant
        return arena.random(rng)
