"""Calibrations: from tables to a roofline, and everything that must not be mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hardware_profiles import load_profile
from nas.config import RunConfig, TargetConfig
from nas.errors import ConfigError
from nas.ir import (
    Candidate,
    GatedFeedForward,
    GroupedQueryAttention,
    Latency,
    LinearMap,
    Phase,
    Slot,
)
from nas.meters import (
    Calibration,
    CostTable,
    Curve,
    Efficiency,
    Form,
    MeasuredTable,
    Request,
    Roof,
    calibrate,
    create_meter,
    decoder_work,
    requests_for,
)
from tests.chains import tiny_shape
from tests.meters.costs import conditions

SHAPE = tiny_shape(hidden_size=256, ffn_width=1024, head_dim=64, vocab_size=4096)
SPECS = {
    "ffn": [GatedFeedForward(width=w) for w in (128, 256, 512)] + [LinearMap()],
    "attention": [GroupedQueryAttention(kv_heads=1)],
}
REQUESTS = requests_for(
    SHAPE,
    [
        Candidate(slot=Slot(layer=0, kind=kind), spec=spec)
        for kind, specs in SPECS.items()
        for spec in specs
    ],
    ("prefill", "decode"),
)
PROFILE = load_profile("rtx4090")
CLASSES = {
    "matmul": Efficiency(compute=0.5, bandwidth=0.7, overhead_us=4),
    "attention": Efficiency(compute=0.2, bandwidth=0.5, overhead_us=9),
    "elementwise": Efficiency(compute=0.5, bandwidth=0.6, overhead_us=2),
    "embedding": Efficiency(compute=0.5, bandwidth=0.3, overhead_us=3),
    "head": Efficiency(compute=0.6, bandwidth=0.8, overhead_us=5),
}
TRUTH = Curve(
    roof=Roof(
        flops_per_s=PROFILE.peak_flops_per_s("float32"), bytes_per_s=PROFILE.bandwidth_bytes_per_s()
    ),
    form=Form(overlap=True, by_class=True),
    classes=CLASSES,
)


def target(prompt: int, **settings: Any) -> TargetConfig:
    return TargetConfig.model_validate(
        {"hardware": "rtx4090", "meter": "roofline", "prompt_tokens": prompt, **settings}
    )


def true_ms(prompt: int, request: Request, batch: int = 1) -> float:
    return TRUTH.milliseconds(decoder_work(target(prompt, batch=batch), SHAPE, request))


def measured(prompt: int, batch: int = 1, network: str = "", **overrides: Any) -> MeasuredTable:
    """What the device of `TRUTH` would have been measured at."""
    costs = CostTable.of(
        (
            r.key,
            r.phase,
            Latency.of(
                [true_ms(prompt, r, batch)],
                conditions(r.phase, prompt_tokens=prompt, batch=batch, **overrides),
            ),
        )
        for r in REQUESTS
    )
    return MeasuredTable(Path(f"{prompt}.csv"), costs, network)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    tables = [measured(prompt, batch) for prompt, batch in ((64, 1), (256, 1), (1024, 4))]
    return calibrate(tables, SHAPE, REQUESTS, PROFILE)


def test_it_predicts_a_prompt_and_a_width_that_no_table_has(
    calibration: Calibration, tmp_path: Path
) -> None:
    path = tmp_path / "c.json"
    path.write_text(calibration.model_dump_json())
    asked = [
        Request("ffn", "prefill", GatedFeedForward(width=768)),
        Request("attention", "prefill", GroupedQueryAttention(kv_heads=2)),
        Request("attention", "decode", GroupedQueryAttention(kv_heads=1)),
        Request("head", "decode"),
    ]
    meter = create_meter(target(512, batch=2, calibration=path), SHAPE)
    for request, latency in zip(asked, meter.measure(asked), strict=True):
        assert latency.median_ms == pytest.approx(true_ms(512, request, batch=2), rel=0.05)
        assert latency.source == "roofline"
        assert latency.conditions == meter.conditions(request.phase)


def test_it_says_what_it_was_fitted_to(calibration: Calibration) -> None:
    assert calibration.points == 3 * len(REQUESTS)
    assert calibration.median_error < 0.01
    assert calibration.median_error <= calibration.worst_error < 0.05
    assert calibration.unseen_median_error <= calibration.unseen_worst_error
    assert (calibration.hardware, calibration.threads) == ("rtx4090", 2)


def test_a_forecast_is_under_conditions_of_its_own(calibration: Calibration) -> None:
    held = calibration.conditions(target(512, batch=2), "decode")
    assert (held.batch, held.prompt_tokens, held.runtime) == (2, 512, "roofline")
    assert held.runtime_version == "calibrated on onnxruntime 1.31.1"
    assert held.device == "a test"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hardware": "l4"}, r"hardware is 'rtx4090', target\.hardware is 'l4'"),
        ({"dtype": "float16"}, r"dtype is 'float32', target\.dtype is 'float16'"),
        ({"threads": 8}, r"threads is 2, target\.threads is 8"),
    ],
)
def test_other_targets_are_refused_by_name(
    calibration: Calibration, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    path = tmp_path / "c.json"
    path.write_text(calibration.model_dump_json())
    with pytest.raises(ConfigError, match=message):
        create_meter(target(512, calibration=path, **settings), SHAPE)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"device": "another"}, "device: 'a test' and 'another'"),
        ({"runtime_version": "2"}, "runtime_version: '1.31.1' and '2'"),
        ({"threads": 4}, "threads: 2 and 4"),
    ],
)
def test_tables_of_unlike_conditions_are_refused_by_field(
    other: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        calibrate([measured(64), measured(256, **other)], SHAPE, REQUESTS, PROFILE)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_one_table_of_one_phase_will_do(phase: Phase) -> None:
    """The head and the embedding are the only members of their classes there."""
    whole = measured(64)
    costs = CostTable.of(
        (key, phase, by_phase[phase]) for key, by_phase in whole.costs.entries.items()
    )
    found = calibrate([MeasuredTable(whole.path, costs)], SHAPE, REQUESTS, PROFILE)
    assert found.points == len(REQUESTS) / 2
    assert found.median_error < 0.05


def test_a_table_of_another_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"64\.csv: measured for another teacher"):
        calibrate([measured(64, network="elsewhere")], SHAPE, REQUESTS, PROFILE)


def test_blocks_that_the_run_does_not_know_are_named() -> None:
    fewer = [request for request in REQUESTS if request.key != "ffn/w256"]
    with pytest.raises(ConfigError, match="ffn/w256: no blocks of this run's space"):
        calibrate([measured(64)], SHAPE, fewer, PROFILE)


def test_two_blocks_at_least() -> None:
    with pytest.raises(ConfigError, match="needs a table"):
        calibrate([], SHAPE, REQUESTS, PROFILE)
    one = CostTable.of([("head", "decode", Latency.of([1.0], conditions("decode")))])
    with pytest.raises(ConfigError, match="at least two"):
        calibrate([MeasuredTable(Path("t.csv"), one)], SHAPE, REQUESTS, PROFILE)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no such file"), ("{", "not a calibration"), ('{"format": 2}', "format")],
)
def test_bad_files_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        create_meter(target(512, calibration=path), SHAPE)


def test_only_the_roofline_reads_a_calibration() -> None:
    data = {
        "name": "x",
        "teacher": {"source": "t"},
        "budgets": {"speedup": 2},
        "target": {"calibration": "c.json"},
    }
    with pytest.raises(ValueError, match="the meter roofline reads it"):
        RunConfig.model_validate(data)
