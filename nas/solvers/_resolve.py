"""One problem solved again and again with other losses; slots, costs and budgets stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nas.errors import PassError
from nas.ir.problem import Problem
from nas.solvers._answer import Clock
from nas.solvers._base import PROVEN_GAP
from nas.solvers._greedy import descend
from nas.solvers._mip import MipSolver, Search, raise_threshold, settled
from nas.solvers._relaxation import ascend, relax
from nas.solvers._table import Floats, Ints, Table, build_table

_MOST_KEPT = 500
_NEAR_SHARE = 0.7


@dataclass(frozen=True)
class Resolved:
    """`pick` [slots]: option indices over all slots; `bound` <= the loss of every feasible pick."""

    pick: Ints
    loss: float
    bound: float


class Resolver:
    """Exact answers to one feasible problem under changing losses.

    Earlier answers stay feasible, so the best of them under the new losses is a near optimum, and
    the prices of the first LP are near the new ones: one label search below the former, bounded by
    the latter, is mostly all it takes. Where it gives up, the search begins anew. Options are
    counted over all slots, in the order of the problem.
    """

    def __init__(self, problem: Problem, *, time_limit_s: float | None = None) -> None:
        self._table = build_table(problem)
        self._time_limit_s = time_limit_s
        self._duals: Floats | None = None
        self._earlier: dict[bytes, Ints] = {}

    @property
    def losses(self) -> Floats:
        """The problem's own losses: [options]."""
        return self._table.loss

    def pick(self, choice: Mapping[str, str]) -> Ints:
        """`choice` (slot to variant) as option indices: [slots]."""
        options = zip(self._table.slot, self._table.variants, strict=True)
        index = {(self._table.slots[slot], name): i for i, (slot, name) in enumerate(options)}
        return np.array([index[slot, choice[slot]] for slot in self._table.slots], dtype=np.int64)

    def solve(self, losses: Floats) -> Resolved:
        """The best pick under `losses` [options].

        The gap is at most 1e-6, or what `time_limit_s` allows for each call. Raises PassError when
        nothing feasible was found.
        """
        table = replace(self._table, loss=np.asarray(losses, dtype=np.float64))
        found = self._near(table) or self._anew(table)
        if len(self._earlier) < _MOST_KEPT:
            self._earlier[found.pick.tobytes()] = found.pick
        return found

    def _near(self, table: Table) -> Resolved | None:
        """The optimum, searched for below the best earlier answer; None where that gives up."""
        if self._duals is None or not self._earlier:
            return None
        clock = Clock(self._time_limit_s)
        start = self._best_earlier(table)
        relaxation = ascend(table, self._duals, table.total_loss(start))
        state = Search(bound=relaxation.bound)
        for pick in (start, relaxation.rounded):
            if table.feasible(pick):
                state.offer(table, descend(table, pick))
        raise_threshold(table, relaxation, state, clock, PROVEN_GAP, first_share=_NEAR_SHARE)
        if state.pick is None or not settled(state, PROVEN_GAP):
            return None
        return Resolved(state.pick, state.loss, min(state.bound, state.loss))

    def _best_earlier(self, table: Table) -> Ints:
        picks = list(self._earlier.values())
        return picks[int(np.argmin(table.loss[np.stack(picks)].sum(axis=1)))]

    def _anew(self, table: Table) -> Resolved:
        clock = Clock(self._time_limit_s)
        relaxation = relax(table)
        if relaxation is not None:
            if self._duals is None:
                self._duals = relaxation.duals
            found = MipSolver().search(table, relaxation, clock, PROVEN_GAP)
            if found.pick is not None:
                return Resolved(found.pick, found.loss, min(found.bound, found.loss))
        raise PassError(
            f"solver mip: nothing feasible found in {clock.seconds:.1f} s; solve the problem once "
            "to see why, or give a longer time limit"
        )
