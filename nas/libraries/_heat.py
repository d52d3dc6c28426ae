"""A plane of losses as a heat map of plain characters, so that it survives a pipe and a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from nas._words import number
from nas.libraries._plane import Axis, Plane

_SHADES = ".:-=+*#%@"
_EMPTY = " "
_DECADES = 3
"""The scale is logarithmic over at most so many powers of ten below the largest loss."""


def heat_map(plane: Plane) -> Iterator[str]:
    """One line for each value of the longer axis, the loosest on top; darker loses more."""
    losses = [loss for row in plane.losses for loss in row if loss is not None]
    edges = _edges(losses)
    wide = max(len(number(value)) for value in plane.down.values)
    across, down = _ascending(plane.across), _ascending(plane.down)
    yield f"loss by {plane.down.name} (down) and {plane.across.name} (across)"
    for i in reversed(down):
        cells = "".join(2 * _shade(plane.losses[i][j], edges) for j in across)
        yield f"  {number(plane.down.values[i]):>{wide}} |{cells}|".rstrip()
    left, right = (number(plane.across.values[j]) for j in (across[0], across[-1]))
    yield f"{plane.across.name} from {left} (left) to {right} (right)"
    yield f"loss up to: {_legend(edges, losses)}"


def _ascending(axis: Axis) -> list[int]:
    """Positions from the tightest limit on."""
    return sorted(range(len(axis.limits)), key=axis.limits.__getitem__)


def _edges(losses: Sequence[float]) -> list[float]:
    """The largest loss of each shade, ascending; a linear scale where losses are not positive."""
    low, high = min(losses), max(losses)
    steps = range(1, len(_SHADES))
    if high <= 0 or high / max(low, high / 10**_DECADES) < 2:
        return [*(low + (high - low) * i / len(_SHADES) for i in steps), high]
    low = max(low, high / 10**_DECADES)
    return [*(low * math.exp(math.log(high / low) * i / len(_SHADES)) for i in steps), high]


def _shade(loss: float | None, edges: Sequence[float]) -> str:
    if loss is None:
        return _EMPTY
    return next(shade for shade, edge in zip(_SHADES, edges, strict=True) if loss <= edge)


def _legend(edges: Sequence[float], losses: Iterable[float]) -> str:
    used = {_shade(loss, edges) for loss in losses}
    words = [f"{s} {e:.3g}" for s, e in zip(_SHADES, edges, strict=True) if s in used]
    return f"{', '.join(words)}; blank: nothing feasible found"
