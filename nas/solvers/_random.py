"""Random feasible architectures: the floor that every search should clear."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nas.errors import ConfigError
from nas.solvers._answer import Clock
from nas.solvers._heuristic import Heuristic
from nas.solvers._table import Ints, Table


class RandomSolver(Heuristic):
    """The best of `samples` random feasible picks, by default a single one.

    A pick is drawn uniformly; while it overspends, a random slot among those that can reduce a
    broken budget is redrawn from its lighter options. The loss plays no part in a draw.
    """

    name: ClassVar[str] = "random"

    def __init__(self, seed: int = 0, samples: int = 1) -> None:
        if samples < 1:
            raise ConfigError(f"solver random: samples is {samples}; give at least 1")
        self._seed = seed
        self._samples = samples

    def _search(self, table: Table, clock: Clock) -> Ints | None:
        generator = np.random.default_rng(self._seed)
        best: Ints | None = None
        for _ in range(self._samples):
            pick = random_feasible(table, generator)
            if pick is not None and (
                best is None or table.total_loss(pick) < table.total_loss(best)
            ):
                best = pick
            if clock.over:
                break
        return best


def random_feasible(
    table: Table, generator: np.random.Generator, attempts: int = 50
) -> Ints | None:
    """One random feasible pick [slots], or None after `attempts` draws that could not be mended."""
    ends = np.append(table.start[1:], table.options)
    for _ in range(attempts):
        pick = generator.integers(table.start, ends).astype(np.int64)
        if _mend(table, pick, generator):
            return pick
    return None


def _mend(table: Table, pick: Ints, generator: np.random.Generator) -> bool:
    """Redraw slots of `pick`, in place, until it is feasible; False when it cannot be."""
    for _ in range(20 * len(table.slots)):
        broken = table.rows[:, pick].sum(axis=1) > table.caps
        if not broken.any():
            return True
        row = generator.choice(np.flatnonzero(broken))
        lighter = np.flatnonzero(table.rows[row] < table.rows[row, pick][table.slot])
        if not lighter.size:
            return False
        slot = generator.choice(np.unique(table.slot[lighter]))
        pick[slot] = generator.choice(lighter[table.slot[lighter] == slot])
    return table.feasible(pick)
