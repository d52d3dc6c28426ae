"""NSGA-II of Optuna: every proxy an objective, the limits as constraints."""

from __future__ import annotations

import math
import random
import warnings
from typing import Any, ClassVar

from nas._imports import require
from nas.errors import ConfigError
from nas.search._arena import Arena, Scored
from nas.search._base import Strategy
from search_spaces import Choice

_OVERSPENT = "overspent"
_IDLE = 25
"""Generations in a row without anything new after which the search has converged."""


class Nsga2(Strategy):
    """NSGA-II (Deb et al. 2002) with constrained domination, a generation at a time.

    Needs the optional package optuna.
    """

    name: ClassVar[str] = "nsga2"

    def __init__(self, population: int = 36) -> None:
        if population < 2:
            raise ConfigError("strategy nsga2: give population >= 2")
        self._population = population

    def explore(self, arena: Arena, rng: random.Random) -> None:
        optuna = require("optuna", extra="search")
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study, idle = self._study(optuna, arena, rng), 0
            while arena.left > 0 and idle < _IDLE:
                before = len(arena.scored) + len(arena.refused)
                self._generation(optuna, study, arena)
                idle = 0 if len(arena.scored) + len(arena.refused) > before else idle + 1
        finally:
            optuna.logging.set_verbosity(verbosity)

    def _study(self, optuna: Any, arena: Arena, rng: random.Random) -> Any:
        with warnings.catch_warnings():
            # `constraints_func` is experimental before optuna 5 and deprecated from it on.
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.NSGAIISampler(
                population_size=self._population,
                seed=rng.getrandbits(32),
                constraints_func=lambda trial: trial.user_attrs[_OVERSPENT],
            )
        directions = ["maximize"] * len(arena.scorer.names)
        study = optuna.create_study(directions=directions, sampler=sampler)
        for _ in range(self._population):
            study.enqueue_trial(_params(arena, arena.random(rng)))
        return study

    def _generation(self, optuna: Any, study: Any, arena: Arena) -> None:
        """Ask for a generation, score it, tell it."""
        asked = [study.ask() for _ in range(self._population)]
        choices = [_choice(trial, arena) for trial in asked]
        found = arena.visit(choices)
        for trial, choice, scored in zip(asked, choices, found, strict=True):
            overspent = arena.overspent(choice)
            trial.set_user_attr(_OVERSPENT, list(overspent))
            if scored is None and not any(overspent):  # no trials were left for it
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            values = _objectives(scored, arena)
            if all(map(math.isfinite, values)):
                study.tell(trial, values)
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _objectives(scored: Scored | None, arena: Arena) -> list[float]:
    """Zeros for what breaks a limit: it is dominated whatever its values are."""
    return [0.0 if scored is None else scored.value(name) for name in arena.scorer.names]


def _params(arena: Arena, choice: Choice) -> dict[str, int]:
    return dict(zip(arena.space.dimensions, choice, strict=True))


def _choice(trial: Any, arena: Arena) -> Choice:
    sizes = zip(arena.space.dimensions, arena.space.sizes, strict=True)
    return tuple(trial.suggest_int(name, 0, size - 1) for name, size in sizes)
