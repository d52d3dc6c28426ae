"""Evolution as a baseline: NSGA-II of Optuna with the budgets as constraints."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np

from nas._imports import require
from nas.errors import ConfigError
from nas.solvers._answer import Clock
from nas.solvers._heuristic import Heuristic
from nas.solvers._table import Ints, Table

_OVERSPENT = "overspent"


class EvolutionSolver(Heuristic):
    """NSGA-II (Deb et al. 2002) with constrained domination; one integer a slot.

    The first generation holds the least-loss and, for each budget, the lightest pick; the rest is
    random. Needs the optional package optuna.
    """

    name: ClassVar[str] = "evolution"

    def __init__(self, seed: int = 0, trials: int = 2000, population: int = 50) -> None:
        if trials < 1 or population < 2:
            raise ConfigError("solver evolution: give trials >= 1 and population >= 2")
        self._seed = seed
        self._trials = trials
        self._population = population

    def _search(self, table: Table, clock: Clock) -> Ints | None:
        optuna = require("optuna", extra="dev")
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with warnings.catch_warnings():
                # `constraints_func` is experimental before optuna 5 and deprecated from it on.
                warnings.simplefilter("ignore")
                study = self._study(optuna, table)
            study.optimize(
                lambda trial: _evaluate(trial, table),
                n_trials=self._trials,
                timeout=clock.left_s,
            )
        finally:
            optuna.logging.set_verbosity(verbosity)
        feasible = [
            trial
            for trial in study.trials
            if trial.value is not None and trial.user_attrs[_OVERSPENT] == [0.0] * len(table.caps)
        ]
        if not feasible:
            return None
        return _pick(min(feasible, key=lambda trial: trial.value).params, table)

    def _study(self, optuna: Any, table: Table) -> Any:
        sampler = optuna.samplers.NSGAIISampler(
            population_size=self._population,
            seed=self._seed,
            constraints_func=lambda trial: trial.user_attrs[_OVERSPENT],
        )
        study = optuna.create_study(sampler=sampler)
        for values in (table.loss, *table.rows):
            pick = table.slot_argmin(values) - table.start
            study.enqueue_trial({_key(i): int(v) for i, v in enumerate(pick)})
        return study


def _key(slot: int) -> str:
    return f"slot{slot}"


def _evaluate(trial: Any, table: Table) -> float:
    sizes = np.diff(np.append(table.start, table.options))
    for i, size in enumerate(sizes):
        trial.suggest_int(_key(i), 0, int(size) - 1)
    pick = _pick(trial.params, table)
    over = np.maximum(0.0, table.rows[:, pick].sum(axis=1) - table.caps)
    trial.set_user_attr(_OVERSPENT, over.tolist())
    return table.total_loss(pick)


def _pick(params: dict[str, int], table: Table) -> Ints:
    chosen = [params[_key(i)] for i in range(len(table.slots))]
    return np.asarray(table.start + np.array(chosen, dtype=np.int64), dtype=np.int64)
