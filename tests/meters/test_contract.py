"""What every meter promises, run on every meter."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nas.config import TargetConfig
from nas.ir import (
    Architecture,
    Candidate,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    LinearMap,
    Skip,
    Slot,
)
from nas.meters import CostTable, Meter, Request, create_meter, requests_for
from tests.chains import tiny_shape
from tests.meters.costs import conditions, cost_table

SHAPE = tiny_shape(layers=4)
STUDENT = Architecture(
    choices={
        "layers.0.attention": Skip(),
        "layers.0.ffn": GatedFeedForward(width=20, precision="int8"),
        "layers.1.attention": GroupedQueryAttention(kv_heads=2, precision="int8_dynamic"),
        "layers.1.ffn": GatedFeedForward(width=20),
        "layers.2.attention": GroupedQueryAttention(kv_heads=1, precision="float16"),
        "layers.2.ffn": LinearMap(),
        "layers.3.ffn": GatedFeedForward(width=20, precision="float16"),
    }
)
CANDIDATES = [Candidate(slot=slot, spec=spec) for slot, spec in STUDENT.items(SHAPE)]
REQUESTS = requests_for(SHAPE, CANDIDATES, ("prefill", "decode"))


def _config(tmp_path: Path, meter: str) -> TargetConfig:
    settings = {"meter": meter, "prompt_tokens": 16, "repeats": 2, "threads": 1}
    if meter == "roofline":
        settings["hardware"] = "rtx4090"
    if meter == "table":
        settings["table"] = tmp_path / "costs.json"
        entries = {r.key: {} for r in REQUESTS}
        for r in REQUESTS:
            table = cost_table({r.key: 1.5}, r.phase)
            latency = table.latency(r.key, r.phase)
            one_thread = conditions(r.phase, threads=1)
            entries[r.key][r.phase] = latency.model_copy(update={"conditions": one_thread})
        settings["table"].write_text(CostTable(entries=entries).model_dump_json())
    return TargetConfig.model_validate(settings)


@pytest.fixture(scope="module", params=["onnxruntime", "torch", "roofline", "table"])
def meter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Meter:
    return create_meter(_config(tmp_path_factory.mktemp("meter"), request.param), SHAPE)


@pytest.fixture(scope="module")
def table(meter: Meter) -> CostTable:
    return meter.cost_table(REQUESTS)


def test_one_latency_a_request_under_the_stated_conditions(meter: Meter, table: CostTable) -> None:
    for request in REQUESTS:
        latency = table.latency(request.key, request.phase)
        assert latency.conditions == meter.conditions(request.phase)
        assert all(math.isfinite(ms) and ms >= 0 for ms in latency.samples_ms)


def test_conditions_repeat_the_target(meter: Meter) -> None:
    for phase in ("prefill", "decode"):
        held = meter.conditions(phase)
        assert (held.phase, held.batch, held.prompt_tokens) == (phase, 1, 16)
        assert (held.dtype, held.threads) == ("float32", 1)


def test_order_follows_the_requests(meter: Meter) -> None:
    asked = [Request("head", "decode"), Request("embed", "prefill")]
    phases = [latency.conditions.phase for latency in meter.measure(asked)]
    assert phases == ["decode", "prefill"]


def test_nothing_asked_nothing_measured(meter: Meter) -> None:
    assert meter.measure([]) == []


def test_a_whole_architecture_can_be_priced(table: CostTable) -> None:
    assert table.total_ms(SHAPE, STUDENT, "prefill") > 0
    assert table.total_ms(SHAPE, STUDENT, "decode") > 0


def test_requests_are_distinct_and_without_skips() -> None:
    keys = [request.key for request in REQUESTS if request.phase == "prefill"]
    assert keys == [
        "embed",
        "attention/kv2",
        "ffn/w48",
        "ffn/w20-int8",
        "attention/kv2-int8_dynamic",
        "ffn/w20",
        "attention/kv1-float16",
        "ffn/linear",
        "ffn/w20-float16",
        "head",
    ]


def test_the_teachers_blocks_are_asked_for_even_without_candidates() -> None:
    keys = {request.key for request in requests_for(SHAPE, [], ("decode",))}
    assert keys == {"embed", "attention/kv2", "ffn/w48", "head"}


def test_a_teacher_candidate_is_resolved() -> None:
    kept = Candidate(slot=Slot(layer=0, kind="ffn"), spec=GatedFeedForward(width=48))
    assert requests_for(SHAPE, [kept], ("decode",)) == requests_for(SHAPE, [], ("decode",))


@pytest.mark.parametrize(
    ("part", "spec"),
    [("ffn", None), ("embed", LinearMap()), ("ffn", KeepTeacher())],
)
def test_senseless_requests_are_refused(part: str, spec: object) -> None:
    with pytest.raises(ValueError, match=r"spec|teacher"):
        Request(part, "prefill", spec)  # type: ignore[arg-type]


def test_equal_requests_are_equal() -> None:
    first = Request("attention", "decode", GroupedQueryAttention(kv_heads=1))
    assert first == Request("attention", "decode", GroupedQueryAttention(kv_heads=1))
    assert len({first, Request("attention", "prefill", GroupedQueryAttention(kv_heads=1))}) == 2
