"""Sub-spaces, their union and their corners."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nas.errors import ConfigError
from nas.supernet import sub_spaces
from tests.supernet.encoders import encoder_shape, spaces

MINILM = encoder_shape(
    layers=6, hidden_size=384, query_heads=12, kv_heads=12, head_dim=32, ffn_width=1536
)


def test_one_superlm_a_sub_space_or_one_for_all(tmp_path: Path) -> None:
    large, small = spaces(tmp_path)
    (union,) = spaces(tmp_path, k=1)

    assert (large.largest.key, large.smallest.key) == ("L3-A4-H24-R1.5", "L2-A3-H16-R1.0")
    assert (small.largest.key, small.smallest.key) == ("L2-A3-H12-R1.5", "L1-A2-H8-R1.0")
    assert (union.largest.key, union.smallest.key) == (large.largest.key, small.smallest.key)
    assert union.bound == large.bound
    assert {s.key for s in union.specs()} == {
        s.key for part in (large, small) for s in part.specs()
    }
    assert union.count == 32


def test_a_union_draws_from_each_of_its_spaces_equally_often(tmp_path: Path) -> None:
    (union,) = spaces(tmp_path, k=1)
    rng = random.Random(0)

    drawn = [union.sample(rng).hidden for _ in range(400)]

    assert 150 < sum(hidden >= 16 for hidden in drawn) < 250
    assert set(drawn) == {8, 12, 16, 24}


def test_minilm_has_three_sub_spaces_of_its_own() -> None:
    found = sub_spaces(MINILM)

    assert [space.name.rpartition("-")[2] for space in found] == ["base", "small", "tiny"]
    sizes = [space.largest.size().params for space in found]
    assert sizes == sorted(sizes, reverse=True)
    assert found[0].largest.key == "L6-A12-H384-R4.0"  # the teacher itself
    # The teacher's vocabulary counts, not that of the file.
    assert found[0].largest.vocabulary == MINILM.vocab_size


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sub-spaces come with nas"):
        sub_spaces(encoder_shape())
    with pytest.raises(ConfigError, match="cannot be sliced"):
        spaces(tmp_path, encoder_shape(hidden_size=20, head_dim=5))
    with pytest.raises(ConfigError, match="teacher_heads is 4, the teacher has 2"):
        spaces(tmp_path, encoder_shape(query_heads=2, kv_heads=2, head_dim=12))
    with pytest.raises(ConfigError, match="there are 2 spaces"):
        spaces(tmp_path, k=3)
    with pytest.raises(ConfigError, match="give one of encoders"):
        sub_spaces(encoder_shape(), ["diswot-s0"])
