"""Depth cut as a baseline: leave out one contiguous run of layers, keep the others whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from nas.errors import CapabilityError
from nas.solvers._answer import Clock
from nas.solvers._heuristic import Heuristic
from nas.solvers._table import Ints, Table

_TEACHER = "teacher"
_LAYER = re.compile(r"\d+")
# `skip`, `no_op`, `attn_no-op+ffn_no-op`: nothing but no-ops, once everything else is squeezed out.
_NOTHING = re.compile(r"((attn|attention|ffn|mlp)?(skip|noop))+")


class DepthCutSolver(Heuristic):
    """The contiguous run of layers whose removal meets the budgets at the least summed loss.

    A layer is the slots whose names share their first number, and layers are cut in the order of
    these numbers; slots without a number stay. What is cut takes its no-op variant (`skip` or
    `no_op`, written in any way), what is kept the variant `teacher`, or the least-loss one where
    none is called so. Raises CapabilityError where no layer can be left out.
    """

    name: ClassVar[str] = "depth_cut"

    def _search(self, table: Table, clock: Clock) -> Ints | None:
        options = np.split(np.arange(table.options, dtype=np.int64), table.start[1:])
        nothing = np.array([_no_op(table, members) for members in options], dtype=np.int64)
        layers = _layers(table.slots)
        if not any(_removable(layer, nothing) for layer in layers):
            raise CapabilityError(
                "solver depth_cut: no layer can be left out, for it takes a variant called skip "
                "or no_op in every slot of a layer, and a layer's number in the slot's name; add "
                "them to the library or use another solver"
            )
        whole = np.array([_whole(table, members) for members in options], dtype=np.int64)
        best: Ints | None = None
        for pick in _cuts(whole, layers, nothing):
            if table.feasible(pick) and (
                best is None or table.total_loss(pick) < table.total_loss(best)
            ):
                best = pick
            if clock.over:
                break
        return best


def is_no_op(variant: str) -> bool:
    """Whether a variant's name says that nothing stands in the slot: `skip`, `no_op`, `No-Op`."""
    return _NOTHING.fullmatch(re.sub(r"[^a-z0-9]", "", variant.lower())) is not None


def _cuts(whole: Ints, layers: list[list[int]], nothing: Ints) -> Iterator[Ints]:
    """Picks [slots] with no layer and then with every contiguous run of layers left out."""
    yield whole
    for begin in range(len(layers)):
        pick = whole.copy()
        for layer in layers[begin:]:
            if not _removable(layer, nothing):
                break
            pick[layer] = nothing[layer]
            yield pick.copy()


def _layers(slots: Iterable[str]) -> list[list[int]]:
    """Indices of the slots of each layer, by the layer's number."""
    found: dict[int, list[int]] = {}
    for i, slot in enumerate(slots):
        number = _LAYER.search(slot)
        if number is not None:
            found.setdefault(int(number.group()), []).append(i)
    return [found[number] for number in sorted(found)]


def _removable(layer: list[int], nothing: Ints) -> bool:
    return bool((nothing[layer] >= 0).all())


def _no_op(table: Table, members: Ints) -> int:
    """The least-loss option of a slot that leaves it out, -1 without one."""
    named = [int(i) for i in members if is_no_op(table.variants[i])]
    return min(named, key=lambda i: float(table.loss[i]), default=-1)


def _whole(table: Table, members: Ints) -> int:
    """The option of a slot that is kept."""
    teacher = [int(i) for i in members if table.variants[i] == _TEACHER]
    kept = [int(i) for i in members if not is_no_op(table.variants[i])]
    return min(teacher or kept or members.tolist(), key=lambda i: float(table.loss[i]))
