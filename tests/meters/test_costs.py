"""The cost table: sums, round trip, and no mixing of conditions."""

from __future__ import annotations

import pytest

from nas.errors import ArtifactError, ConfigError
from nas.ir import (
    Architecture,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    Latency,
    LinearMap,
    Skip,
)
from nas.meters import CostTable, block_key
from tests.chains import MIXED, tiny_shape
from tests.meters.costs import conditions, cost_table

FIGURES = {
    "embed": 1.0,
    "head": 10.0,
    "attention/kv2": 100.0,
    "attention/h2kv1": 1000.0,
    "attention/linear": 10_000.0,
    "ffn/w48": 0.1,
    "ffn/w20": 0.01,
    "ffn/linear": 0.001,
}


def test_keys() -> None:
    assert block_key("attention", GroupedQueryAttention(kv_heads=3)) == "attention/kv3"
    assert block_key("ffn", GatedFeedForward(width=768)) == "ffn/w768"
    with pytest.raises(ValueError, match="resolve"):
        block_key("ffn", KeepTeacher())


def test_the_total_of_the_teacher_counts_every_layer() -> None:
    total = cost_table(FIGURES).total_ms(tiny_shape(), Architecture(), "prefill")
    assert total == pytest.approx(11 + 4 * (100 + 0.1))


def test_the_total_of_a_mixed_student_adds_its_own_blocks() -> None:
    total = cost_table(FIGURES).total_ms(tiny_shape(), MIXED, "prefill")
    # skip skip | linear w20 | h2kv1 linear | teacher teacher
    assert total == pytest.approx(11 + 10_000 + 0.01 + 1000 + 0.001 + 100 + 0.1)


def test_a_skip_costs_nothing_though_no_entry_says_so() -> None:
    assert cost_table(FIGURES).latency_ms("ffn", Skip(), "prefill") == 0.0


def test_the_same_map_may_cost_differently_by_slot_kind() -> None:
    table = cost_table(FIGURES)
    assert table.latency_ms("attention", LinearMap(), "prefill") == 10_000
    assert table.latency_ms("ffn", LinearMap(), "prefill") == 0.001


def test_json_round_trip() -> None:
    table = cost_table(FIGURES)
    assert CostTable.model_validate_json(table.model_dump_json()) == table


def test_a_missing_entry_is_named() -> None:
    with pytest.raises(ArtifactError, match="no decode latency of head"):
        cost_table(FIGURES).latency("head", "decode")
    with pytest.raises(ArtifactError, match="no decode latencies"):
        cost_table(FIGURES).conditions("decode")


def test_unlike_conditions_within_a_phase_are_refused_by_field() -> None:
    latencies = [
        ("embed", "prefill", Latency.of([1.0], conditions())),
        ("head", "prefill", Latency.of([1.0], conditions(threads=3))),
    ]
    with pytest.raises(ConfigError, match="threads: 2 and 3"):
        CostTable.of(latencies)


def test_phases_keep_conditions_of_their_own() -> None:
    table = CostTable.of(
        [
            ("embed", "decode", Latency.of([1.0], conditions("decode"))),
            ("embed", "prefill", Latency.of([1.0], conditions("prefill"))),
        ]
    )
    assert table.phases == ("prefill", "decode")


def test_a_latency_under_the_wrong_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="a decode latency stands under prefill"):
        CostTable.of([("embed", "prefill", Latency.of([1.0], conditions("decode")))])
