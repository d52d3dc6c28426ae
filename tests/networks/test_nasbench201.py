"""Cells of NAS-Bench-201: strings, classes of equal cells, the network around them."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch

from nas.errors import ConfigError
from nas.networks import OPERATIONS, Cell, NasBench201Spec
from tests.networks.counting import counted

TEXT = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
ALL_3X3 = Cell(("nor_conv_3x3",) * 6)
SHORT = {
    **{"n": "none", "s": "skip_connect", "1": "nor_conv_1x1"},
    **{"3": "nor_conv_3x3", "p": "avg_pool_3x3"},
}


def cell(edges: str) -> Cell:
    """Operations by letter, in the order 0>1, 0>2, 1>2, 0>3, 1>3, 2>3."""
    return Cell.of([SHORT[letter] for letter in edges])


def random_cells(count: int) -> list[Cell]:
    rng = random.Random(0)
    return [Cell(tuple(rng.choices(OPERATIONS, k=6))) for _ in range(count)]


def test_strings_are_read_and_written() -> None:
    found = Cell.parse(TEXT)

    assert found == cell("3nsp1s")
    assert found.text == TEXT
    assert all(Cell.parse(one.text) == one for one in random_cells(50))


def test_edges_into_a_node_may_stand_in_any_order() -> None:
    swapped = TEXT.replace("none~0|skip_connect~1", "skip_connect~1|none~0")

    assert Cell.parse(swapped).text == TEXT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("|nor_conv_3x3~0|", "for each of the 6 edges"),
        (TEXT.replace("avg_pool_3x3", "max_pool"), "no operation 'max_pool'"),
        (TEXT.replace("none~0", "none"), "'none' is no edge"),
        (TEXT.replace("none~0", "none~1"), "for each of the 6 edges"),
    ],
)
def test_other_strings_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Cell.parse(text)


def test_cells_that_compute_the_same_have_one_class() -> None:
    """Through node 1 or 2; with an edge into nowhere; with an operation on nothing."""
    same = ("3nnn3n", "n3nnn3", "33nn3n", "n3nn33")

    assert {cell(e).isomorphism_class for e in same} == {"nor_conv_3x3(nor_conv_3x3(x))"}
    assert cell("nnnnnn").isomorphism_class == cell("nn3n33").isomorphism_class == "0"


def test_cells_that_compute_something_else_do_not() -> None:
    classes = {
        cell(e).isomorphism_class for e in ("nnnsnn", "nnn1nn", "nnn3nn", "s3nsns", "ssnsss")
    }

    assert len(classes) == 5


def test_there_are_4930_classes() -> None:
    cells = product(OPERATIONS, repeat=6)

    assert len({Cell(edges).isomorphism_class for edges in cells}) == 4930


def test_cells_of_one_class_give_the_same_features() -> None:
    """Their weights are drawn in the same order, so that equal seeds make them equal."""
    left, right = (
        NasBench201Spec(cell(e), width=4, cells=1, image_size=8).build(0)
        for e in ("n3nnn1", "3nnn1n")
    )
    pictures = torch.randn(2, 3, 8, 8)

    assert left.spec.cell.isomorphism_class == right.spec.cell.isomorphism_class
    torch.testing.assert_close(left.features(pictures), right.features(pictures))


@pytest.mark.parametrize(
    "one", [ALL_3X3, cell("31p3s1"), *random_cells(6)], ids=lambda one: one.text
)
def test_counts_are_those_of_the_built_network(one: Cell) -> None:
    spec = NasBench201Spec(one, width=4, cells=2, classes=7, image_size=12)
    params, flops = counted(spec.build(0), torch.zeros(1, 3, 12, 12))

    assert params == spec.size().params
    if "none" not in one.operations:  # edges that nothing reaches are not run
        assert flops == spec.size().flops


def test_the_published_size_of_the_largest_cell() -> None:
    size = NasBench201Spec(ALL_3X3).size()

    assert size.params == 1_531_546
    assert round(size.flops / 1e6, 2) == 220.12


def test_depth_counts_convolutions_on_the_longest_path() -> None:
    assert ALL_3X3.depth == 3
    assert cell("3n3np1").depth == 3
    assert cell("sssppp").depth == 0
    assert cell("3nnn1n").depth == 2
    assert cell("nnn1nn").depth == 1
    assert cell("n33n33").depth == 2
    assert NasBench201Spec(ALL_3X3).depth == 3 * 5 * 3 + 6


def test_equal_seeds_give_equal_weights_and_leave_other_random_numbers_alone() -> None:
    spec = NasBench201Spec(ALL_3X3, width=4, cells=1, image_size=8)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    first, second, third = (spec.build(seed).state_dict() for seed in (1, 1, 2))

    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], third["head.weight"])


def test_a_cell_without_a_path_gives_zeros_of_the_right_shape() -> None:
    network = NasBench201Spec(cell("nnnnnn"), width=4, cells=1, image_size=8).build(0)

    assert network.features(torch.randn(2, 3, 8, 8)).shape == (2, 16, 2, 2)
    assert network.body[0](torch.randn(2, 4, 8, 8)).abs().sum() == 0
