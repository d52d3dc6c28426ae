"""Precisions of a space: what becomes a candidate, and what is read as before."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nas.ir import Candidate, GatedFeedForward, parse_spec
from search_spaces import SearchSpace, load_space
from tests.chains import tiny_shape

SHAPE = tiny_shape(layers=1)


def _labels(space: SearchSpace) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"attention": [], "ffn": []}
    for candidate in space.candidates(SHAPE):
        found[candidate.slot.kind].append(candidate.spec.label)
    return found


def test_every_block_and_the_teachers_own_is_a_candidate_in_each_precision() -> None:
    space = SearchSpace.model_validate(
        {
            "attention": {"kv_heads": [1], "precision": ["float", "int8"]},
            "ffn": {"width_percent": [50], "precision": "int8_dynamic", "skip": False},
        }
    )
    assert space.precisions == {"int8", "int8_dynamic"}
    assert _labels(space) == {
        "attention": ["kv1", "linear", "kv2-int8", "kv1-int8", "linear-int8", "skip"],
        "ffn": ["w48-int8_dynamic", "w24-int8_dynamic", "linear-int8_dynamic"],
    }


def test_half_precision_is_named_as_the_others_are() -> None:
    space = SearchSpace.model_validate(
        {
            "attention": {"kv_heads": [1], "linear": False},
            "ffn": {"linear": False, "precision": ["float", "float16", "int8"]},
        }
    )
    assert space.precisions == {"float16", "int8"}
    assert _labels(space) == {
        "attention": ["kv1", "skip"],
        "ffn": ["w48-float16", "w48-int8", "skip"],
    }


def test_a_space_without_a_word_on_it_is_as_before() -> None:
    space = load_space("decoder")
    assert not space.precisions
    assert "precision" not in space.model_dump_json()
    assert not any("int8" in c.id for c in space.candidates(SHAPE))
    candidate = Candidate.model_validate(
        {"slot": {"layer": 0, "kind": "ffn"}, "spec": {"kind": "gated_ffn", "width": 24}}
    )
    assert candidate.spec == GatedFeedForward(width=24)
    assert "precision" not in candidate.model_dump_json()


def test_a_precision_is_part_of_the_specification() -> None:
    spec = GatedFeedForward(width=24, precision="int8")
    assert parse_spec(spec.model_dump(mode="json")) == spec
    assert len({spec, spec.at("float"), spec.at("int8_dynamic"), spec.at("float16")}) == 4
    assert spec.at("float").label == "w24"


@pytest.mark.parametrize("precision", ["int4", [], ["float", "fp8"]])
def test_an_unknown_precision_is_refused(precision: object) -> None:
    with pytest.raises(ValidationError, match="precision"):
        SearchSpace.model_validate({"ffn": {"precision": precision}})
