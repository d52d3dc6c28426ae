"""What a NAS-Bench-201 network runs (arXiv 2001.00326, figure 1), counted without building it.

Stem, three stages of five equal cells with 16, 32 and 64 channels at 32, 16 and 8 pixels, a
residual block of stride two between stages, pooling and a linear layer. A cell has four nodes;
every node but the first is the sum of one operation on each earlier node.

Which of a cell's operations a runtime runs is its own business, so there are several rules:

- `eager`: all of them; a `none` multiplies by zero, as the reference implementation does;
- `nonzero`: all but the `none`;
- `live`: what lies on a path from the cell's input to its output;
- `folded`: what a compiler with constant folding leaves. A `none` behind a sum, a pooling, a
  convolution that something else reads, or the input of the cell becomes a zero and is dropped with
  all that only it needs. A `none` behind a convolution that nothing else reads is folded into its
  weights, and the convolution runs on. What reads a zero runs, too; a network that does not depend
  on its input is a constant and runs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from nas.meters import Operator

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
STAGES = ((16, 32), (32, 16), (64, 8))
CELLS, CLASSES, FLOAT = 5, 10, 4
KINDS = {"nor_conv_3x3": "conv3x3", "nor_conv_1x1": "conv1x1", "avg_pool_3x3": "pool"}


@dataclass(frozen=True)
class Cell:
    """What runs in one cell: operations by name, sums of two; `depends`: on the cell's input."""

    operations: Counter[str] = field(default_factory=Counter)
    sums: int = 0
    depends: bool = True


Rule = Callable[[dict[tuple[int, int], str]], Cell]


def parse(architecture: str) -> dict[tuple[int, int], str]:
    """`|op~0|+|op~0|op~1|+|op~0|op~1|op~2|` as the operation of each edge."""
    nodes = architecture.strip("|").split("|+|")
    names = [part.split("~")[0] for node in nodes for part in node.split("|")]
    return dict(zip(EDGES, names, strict=True))


def network_work(cell: Cell, batch: int) -> dict[Operator, float]:
    """Operators of the whole network."""
    if not cell.depends:
        return {Operator("call", 0.0, 0.0): 1}
    work: Counter[Operator] = Counter()
    work[Operator("call", 0.0, 0.0)] = 1
    work[Operator("fixed", 0.0, 0.0)] = 1
    work[convolution(3, 3, 16, 32, batch)] += 1
    for channels, pixels in STAGES:
        values = batch * channels * pixels**2
        for name, count in cell.operations.items():
            work[_operation(name, channels, pixels, batch)] += CELLS * count
        add = Operator("elementwise", float(values), float(3 * FLOAT * values))
        work[add] += CELLS * cell.sums
    for (before, _), (after, pixels) in pairwise(STAGES):
        work[convolution(3, before, after, pixels, batch)] += 1
        work[convolution(3, after, after, pixels, batch)] += 1
        work[convolution(1, before, after, pixels, batch)] += 1
    channels, pixels = STAGES[-1]
    values = channels * (pixels**2 * batch + CLASSES)
    work[Operator("head", 2.0 * batch * channels * CLASSES, float(FLOAT * values))] += 1
    return dict(work)


def convolution(size: int, inputs: int, outputs: int, pixels: int, batch: int) -> Operator:
    """A convolution with as many pixels going in as coming out."""
    area, weights = batch * pixels**2, size**2 * inputs * outputs
    moved = FLOAT * (area * (inputs + outputs) + weights)
    return Operator(f"conv{size}x{size}", 2.0 * area * weights, float(moved))


def _operation(name: str, channels: int, pixels: int, batch: int) -> Operator:
    values = batch * channels * pixels**2
    if name == "avg_pool_3x3":
        return Operator("pool", 9.0 * values, float(2 * FLOAT * values))
    if name == "none":
        return Operator("elementwise", float(values), float(2 * FLOAT * values))
    size = 3 if name == "nor_conv_3x3" else 1
    return convolution(size, channels, channels, pixels, batch)


def eager(cell: dict[tuple[int, int], str]) -> Cell:
    return _cell(cell, cell)


def nonzero(cell: dict[tuple[int, int], str]) -> Cell:
    return _cell(cell, (edge for edge, name in cell.items() if name != "none"))


def live(cell: dict[tuple[int, int], str]) -> Cell:
    edges = [edge for edge, name in cell.items() if name != "none"]
    reached, needed = {0}, {3}
    for node in (1, 2, 3):
        if any(a in reached for a, b in edges if b == node):
            reached.add(node)
    for node in (2, 1, 0):
        if any(b in needed for a, b in edges if a == node):
            needed.add(node)
    kept = [(a, b) for a, b in edges if a in reached and b in needed]
    return _cell(cell, kept) if kept else Cell(depends=False)


def _cell(cell: dict[tuple[int, int], str], kept: Iterable[tuple[int, int]]) -> Cell:
    edges = list(kept)
    operations = Counter(cell[edge] for edge in edges if cell[edge] != "skip_connect")
    into = Counter(node for _, node in edges)
    return Cell(operations, sum(count - 1 for count in into.values()))


@dataclass(frozen=True)
class _Value:
    """A tensor while folding: what made it, all edges and sums behind it."""

    made_by: str
    edges: frozenset[tuple[int, int]] = frozenset()
    sums: frozenset[tuple[int, int]] = frozenset()
    depends: bool = False

    @property
    def is_convolution(self) -> bool:
        return self.made_by.startswith("nor_conv")


_INPUT = _Value("input", depends=True)


def folded(cell: dict[tuple[int, int], str]) -> Cell:
    """See the module; None stands for a zero that was dropped."""
    first = _apply(cell, (0, 1), _INPUT)
    only_zeros_read_it = cell[1, 3] == "none"
    behind_first = _zero(first, only_zeros_read_it) if cell[1, 2] == "none" else None
    second = _sum(2, [_apply(cell, (0, 2), _INPUT), behind_first or _apply(cell, (1, 2), first)])
    alone = second is not first or only_zeros_read_it
    behind_second = _zero(second, alone) if cell[2, 3] == "none" else None
    terms = [_apply(cell, (0, 3), _INPUT), _apply(cell, (1, 3), first)]
    output = _sum(3, [*terms, behind_second or _apply(cell, (2, 3), second)])
    if output is None or not output.depends:
        return Cell(depends=False)
    names = (cell[edge] for edge in output.edges)
    return Cell(Counter(names), sum(count for _, count in output.sums))


def _zero(value: _Value | None, alone: bool) -> _Value | None:
    """Zero times `value`: the convolution with zero weights, or a constant."""
    return value if value is not None and value.is_convolution and alone else None


def _apply(
    cell: dict[tuple[int, int], str], edge: tuple[int, int], source: _Value | None
) -> _Value | None:
    name = cell[edge]
    if name == "none" or (name == "skip_connect" and source is None):
        return None
    if name == "skip_connect":
        return source
    behind = source or _Value("zero")
    return _Value(name, behind.edges | {edge}, behind.sums, behind.depends)


def _sum(node: int, values: Iterable[_Value | None]) -> _Value | None:
    terms = [value for value in values if value is not None]
    if len(terms) < 2:
        return terms[0] if terms else None
    edges = frozenset().union(*(term.edges for term in terms))
    sums = frozenset().union(*(term.sums for term in terms)) | {(node, len(terms) - 1)}
    return _Value("sum", edges, sums, any(term.depends for term in terms))


RULES: dict[str, Rule] = {"eager": eager, "nonzero": nonzero, "live": live, "folded": folded}
