"""What the benchmark of latency tables counts, against published figures and cells done by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.nasbench201 import RULES, Cell, network_work, parse

NAMES = {
    "n": "none",
    "s": "skip_connect",
    "1": "nor_conv_1x1",
    "3": "nor_conv_3x3",
    "p": "avg_pool_3x3",
}


def architecture(letters: str) -> str:
    """`3n1 sn3`: operations of the edges 01, 02, 12, 03, 13, 23."""
    a, b, c, d, e, f = (NAMES[letter] for letter in letters.replace(" ", ""))
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def runs(rule: str, letters: str) -> Cell:
    return RULES[rule](parse(architecture(letters)))


def convolutions(cell: Cell) -> str:
    """Letters of the convolutions and poolings that run."""
    short = {name: letter for letter, name in NAMES.items()}
    return "".join(sorted(short[name] for name in cell.operations.elements()))


@pytest.mark.parametrize(
    ("letters", "millions"), [("333 333", 220.12), ("111 111", 31.38), ("nss nss", 7.78)]
)
def test_multiplications_are_those_of_the_published_tables(letters: str, millions: float) -> None:
    """`flops` of NAS-Bench-201, in multiply-adds."""
    work = network_work(runs("live", letters), batch=1)
    convolved = sum(n * o.flops for o, n in work.items() if o.kind.startswith(("conv", "head")))
    assert convolved / 2e6 == pytest.approx(millions, abs=0.01)


def test_bytes_of_a_cell_of_sums_alone() -> None:
    """Three values in, three read or written for each of five cells a stage."""
    work = network_work(Cell(Counter(), sums=2), batch=4)
    added = {o.flops: n for o, n in work.items() if o.kind == "elementwise"}
    assert added == {4 * 16 * 1024: 10, 4 * 32 * 256: 10, 4 * 64 * 64: 10}
    assert {o.bytes_moved / o.flops for o in work if o.kind == "elementwise"} == {12}


def test_eager_runs_everything_and_multiplies_by_zero() -> None:
    cell = runs("eager", "n31 psn")
    assert cell.operations == Counter(
        {"none": 2, "nor_conv_3x3": 1, "nor_conv_1x1": 1, "avg_pool_3x3": 1}
    )
    assert cell.sums == 3
    assert convolutions(runs("nonzero", "n31 psn")) == "13p"


@pytest.mark.parametrize(
    ("letters", "left"),
    [
        ("333 333", "333333"),
        ("n31 snn", ""),  # a zero is convolved, and nothing reads node 2
        ("3nn 13n", "133"),
        ("n3n nn1", "13"),
    ],
)
def test_live_keeps_paths_from_input_to_output(letters: str, left: str) -> None:
    assert convolutions(runs("live", letters)) == left


def test_without_a_path_a_network_is_a_call() -> None:
    assert not runs("live", "333 nnn").depends
    assert [o.kind for o in network_work(Cell(depends=False), batch=1)] == ["call"]


@pytest.mark.parametrize(
    ("letters", "left"),
    [
        ("333 333", "333333"),
        ("s1n snn", "1"),  # a convolution that only a zero reads runs with zero weights
        ("sss p1n", "1p"),  # behind a sum there is nothing to fold into
        ("spn snn", ""),  # nor behind a pooling
        ("13n 1nn", "1"),  # node 2 is a sum: the zeroed 1x1 and the 3x3
        ("p3n 1nn", "13"),  # the zeroed pooling is a constant, so node 2 is the 3x3
        ("3sn sns", "3"),  # folded, and added to what the output reads
        ("nn3 s1n", "13"),  # zeros are convolved where the cell depends on its input
        ("nn3 n1n", "constant"),
        ("n33 snn", ""),
        ("3ns s1n", "13"),  # node 2 is node 1, which the 1x1 reads as well
    ],
)
def test_folded_drops_what_constants_make_superfluous(letters: str, left: str) -> None:
    cell = runs("folded", letters)
    assert (convolutions(cell) if cell.depends else "constant") == left
