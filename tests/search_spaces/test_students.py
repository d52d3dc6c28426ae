"""Spaces of whole students: counts, keys, neighbours, and files that are refused."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from nas.errors import ConfigError
from search_spaces import (
    StudentSpace,
    kind_of,
    list_spaces,
    list_student_spaces,
    load_space,
    load_student_space,
)

COUNTS = {
    "autodistil-base": 256,
    "autodistil-minilm-base": 256,
    "autodistil-minilm-small": 256,
    "autodistil-minilm-tiny": 256,
    "autodistil-small": 256,
    "autodistil-tiny": 256,
    "diswot-s0": 64,
    "nasbench201": 15_625,
}
SMALL = """
builder: cifar_resnet
description: two by one by three
blocks: [[1, 2], [4], [1, 3, 5]]
"""


@pytest.fixture
def small(tmp_path: Path) -> StudentSpace:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return load_student_space(str(path))


def test_the_spaces_that_come_with_nas_have_their_published_counts() -> None:
    assert {name: load_student_space(name).count for name in list_student_spaces()} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_every_architecture_has_a_key_of_its_own(name: str) -> None:
    space = load_student_space(name)

    keys = {space.key(choice) for choice in space.choices()}

    assert len(keys) == space.count


def test_keys_are_readable() -> None:
    tiny, base = load_student_space("autodistil-tiny"), load_student_space("autodistil-small")

    assert load_student_space("diswot-s0").key((2, 2, 3)) == "5-5-7"
    assert tiny.key((3, 3, 1, 3)) == "L7-A10-H160-R3.5"
    assert base.key((2, 1, 3, 3)) == "L11-A8-H352-R4.0"
    assert load_student_space("nasbench201").key((3, 0, 1, 4, 2, 1)) == (
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
    )


def test_mutants_differ_in_one_dimension_and_reach_every_value(small: StudentSpace) -> None:
    rng = random.Random(0)

    mutants = Counter(small.mutate((0, 0, 1), rng) for _ in range(300))

    assert set(mutants) == {(1, 0, 1), (0, 0, 0), (0, 0, 2)}
    assert min(mutants.values()) > 40


def test_samples_reach_everything_and_equal_seeds_agree(small: StudentSpace) -> None:
    drawn = [small.sample(random.Random(seed)) for seed in range(100)]

    assert set(drawn) == set(small.choices())
    assert drawn == [small.sample(random.Random(seed)) for seed in range(100)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SMALL.replace("blocks", "block"), "block"),
        (SMALL + "depth: 3\n", "depth: Extra inputs"),
        (SMALL.replace("[4]", "[]"), "blocks_2: give at least one value"),
        (SMALL.replace("[1, 2]", "[2, 2]"), "blocks_1: give at least one value, and each once"),
        (SMALL.replace("[4]", "[0]"), "greater than 0"),
        (SMALL.replace("cifar_resnet", "mobilenet"), "'mobilenet'"),
        ("builder: nasbench201\ndescription: x\noperations: [none, conv]\n", "operations.1"),
        ("- 1\n", "it has no keys"),
        ("builder: [", "not a search space"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=words):
        load_student_space(str(path))


def test_the_two_kinds_are_told_apart() -> None:
    assert not set(list_spaces()) & set(list_student_spaces())
    assert (kind_of("decoder"), kind_of("diswot-s0")) == ("blocks", "students")
    with pytest.raises(ConfigError, match="a space of students, which nas search takes"):
        load_space("diswot-s0")
    with pytest.raises(ConfigError, match="a space of blocks, which nas run takes"):
        load_student_space("decoder")
    with pytest.raises(ConfigError, match="did you mean diswot-s0"):
        load_student_space("diswot-so")
