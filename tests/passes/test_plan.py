"""The forecast that a run keeps, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas.compiler import PASSES, compile_run
from nas.config import RunConfig
from nas.errors import CapabilityError
from nas.ir import TextShape
from nas.passes._work import Work
from nas.passes.forecast import compare_forecast, keep_plan, stored_plan
from nas.passes.plan import Plan, PlanRow, Rates, make_plan, measured_rates
from nas.report import ForecastSummary
from nas.run import RunDirectory
from nas.teachers import read_shape
from search_spaces import load_space

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


def _fake_plan(run: RunDirectory, *rows: tuple[str, int, float]) -> None:
    sizes = {"disk_mib": 2.0, "memory_mib": 100.0, "transfer_mib": 0.0}
    found = [{"pass_name": n, "units": u, "seconds": s, **sizes} for n, u, s in rows]
    run.path("plan.json").write_text(json.dumps({"rows": found}))


def _took(run: RunDirectory, name: str, seconds: float, units: int, **more: float) -> None:
    run.event("pass", name=name, seconds=seconds, units=units, peak_memory_mib=90.0, **more)


def _by_name(run: RunDirectory) -> dict[str, ForecastSummary]:
    return {row.name: row for row in compare_forecast(run)}


def test_a_run_keeps_its_first_forecast(small_config: MakeConfig, run: RunDirectory) -> None:
    config = small_config()
    compile_run(config, run, stop="space")
    before = run.path("plan.json").read_bytes()
    compile_run(config, run, stop="prune")
    assert run.path("plan.json").read_bytes() == before
    assert {"build", "score", "distill"} <= {row.pass_name for row in stored_plan(run)}


def test_other_settings_have_another_forecast(small_config: MakeConfig, run: RunDirectory) -> None:
    compile_run(small_config(), run, stop="space")
    compile_run(small_config(distill={"steps": 4000}), run, stop="space")
    (distill,) = (row for row in stored_plan(run) if row.pass_name == "distill")
    assert distill.seconds > 0


def test_the_run_goes_on_without_a_forecast(
    small_config: MakeConfig, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: RunConfig, __: Path) -> None:
        raise CapabilityError("the teacher is a resnet")

    monkeypatch.setattr("nas.passes.forecast.make_plan", refuse)
    _fake_plan(run, ("build", 1, 1.0))
    compile_run(small_config(), run, stop="space")
    assert run.record("space") is not None
    assert not run.path("plan.json").exists()
    assert compare_forecast(run) == ()
    assert [e["error"] for e in run.events() if e["event"] == "no_plan"] == [
        "the teacher is a resnet"
    ]


def test_a_forecast_draws_no_random_numbers_of_the_run() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    measured_rates("cpu", 64)
    assert torch.equal(torch.rand(1), expected)


def test_actual_is_what_the_whole_pass_took(run: RunDirectory) -> None:
    _fake_plan(run, ("build", 2, 30.0), ("score", 1, 5.0), ("refine", 0, 0.0))
    for name in "ab":
        path = f"library/{name}"
        run.store(f"build/{name}", "k", {path: lambda p: p.write_bytes(bytes(2**20))})
    _took(run, "build", 25.0, 2, data_seconds=5.0)
    _took(run, "build", 1.0, 1)  # one that was damaged, made again
    rows = _by_name(run)
    build = rows["build"]
    assert (build.actual_s, build.disk_mib, build.peak_memory_mib) == (20.0, 2.0, 90.0)
    assert build.error_percent == pytest.approx(50)
    assert rows["score"].actual_s is None
    assert "refine" not in rows


def test_what_is_left_after_a_kill_is_not_the_pass(run: RunDirectory) -> None:
    _fake_plan(run, ("build", 3, 30.0))
    for name in "abc":
        run.store(f"build/{name}", "k")
    _took(run, "build", 9.0, 1)
    assert _by_name(run)["build"].actual_s is None


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{"pass_name": "build"}]}', '{"rows": 3}'])
def test_a_torn_plan_is_none(run: RunDirectory, text: str) -> None:
    run.path("plan.json").write_text(text)
    assert compare_forecast(run) == ()


def test_a_finished_run_compares_all_passes(small_config: MakeConfig, run: RunDirectory) -> None:
    keep_plan(run, small_config())
    compile_run(small_config(), run)
    rows = _by_name(run)
    known = {name for name, row in rows.items() if row.actual_s is not None}
    made = {"data", "measure", "build", "score", "solve", "distill", "export", "evaluate"}
    assert made <= known
    assert all(row.peak_memory_mib for row in rows.values() if row.name in made - {"data"})
    summary = json.loads(run.path("report", "summary.json").read_text())
    assert made <= {row["name"] for row in summary["forecast"]}
    assert "Forecast against actual" in run.path("report", "report.html").read_text()


@pytest.fixture
def known_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 100 GFLOP/s, 20 in float64."""
    monkeypatch.setattr("nas.passes.plan.measured_rates", lambda *_: Rates(100, 20, 50))


def _rows(plan: Plan) -> dict[str, PlanRow]:
    return {row.pass_name: row for row in plan.rows}


@pytest.mark.usefixtures("known_rates")
@pytest.mark.parametrize(
    ("formats", "units"),
    [([], 0), (["huggingface"], 1), (["onnx"], 3), (["huggingface", "onnx", "tensorrt"], 5)],
)
def test_exports_are_those_that_are_asked_for(
    small_config: MakeConfig, formats: list[str], units: int
) -> None:
    plan = make_plan(small_config(export={"formats": formats}, baselines=["uniform_ffn"]))
    export = _rows(plan)["export"]
    assert export.units == units
    assert export.seconds == pytest.approx(0.5 * units, abs=0.2)
    assert any("engines" in note for note in plan.notes) == ("tensorrt" in formats)


def test_looking_for_the_best_cut_is_paid_for(
    small_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Rates(0.001, 0.001, 0.001)  # the network is tiny
    monkeypatch.setattr("nas.passes.plan.measured_rates", lambda *_: slow)

    def seconds(*baselines: str) -> float:
        return _rows(make_plan(small_config(baselines=list(baselines))))["solve"].seconds

    assert seconds() == seconds("uniform_ffn") == 2
    assert seconds("depth_cut") == seconds("depth_cut_within", "depth_cut") > 2


SAMPLES = {"kind": "teacher_samples", "tokens": 48000, "prompt_tokens": 4, "batch": 10}


@pytest.mark.usefixtures("known_rates")
def test_text_that_the_teacher_writes_is_paid_for(small_config: MakeConfig) -> None:
    def data(stream: bool, *sources: dict[str, object]) -> tuple[PlanRow, Plan]:
        given = {"sources": [{"kind": "python_docs"}, *sources]}
        plan = make_plan(small_config(data=given, teacher={"stream": stream}))
        return _rows(plan)["data"], plan

    (without, _), (written, _), (streamed, plan) = (
        data(False),
        data(False, SAMPLES),
        data(True, SAMPLES),
    )
    work = _work(small_config(data={"sources": [SAMPLES]}), streams=True)
    tokens = 48000 * (work.body / 100 + work.head / 50) / 1e9
    assert written.seconds - without.seconds == pytest.approx(tokens, abs=0.1)
    assert written.disk_mib > without.disk_mib
    # 2000 windows in batches of 10, each a step for the prompt and 20 more tokens
    assert work.sampling_reads_mib == pytest.approx(200 * 21 * 4 * sum(work.blocks) / 2**20)
    reads = work.sampling_reads_mib / 1000
    assert streamed.seconds - written.seconds == pytest.approx(reads, abs=0.1)
    assert any("once a token" in note for note in plan.notes)


def _work(config: RunConfig, **options: bool) -> Work:
    shape = read_shape(config.teacher)
    assert isinstance(shape, TextShape)
    return Work(config, shape, load_space(config.space).candidates(shape, 64), **options)


def test_reading_text_has_a_time_of_its_own(run: RunDirectory) -> None:
    _fake_plan(run, ("data", 1, 3.0))
    assert _by_name(run)["data"].actual_s is None
    run.store("data", "k", seconds=2.0)
    assert _by_name(run)["data"].error_percent == pytest.approx(50)


@pytest.mark.usefixtures("known_rates")
def test_the_process_of_the_run_has_a_device_beside_those_of_workers(
    small_config: MakeConfig,
) -> None:
    large = small_config(build={"tokens": 10**12})  # so that rounded hours can be told apart
    sizes = make_plan(large).sizes
    for device in {size.device for size in sizes}:
        alone, *more = (size for size in sizes if size.device == device)
        rest_s = alone.whole_s - alone.build_s - alone.score_s
        assert alone.device_hours == pytest.approx(alone.whole_s / 3600, abs=0.002)
        for size in more:
            shared = (size.workers + 1) * (size.build_s + size.score_s)
            assert size.device_hours == pytest.approx((shared + rest_s) / 3600, abs=0.002)
            assert size.device_hours >= alone.device_hours


def _shortages(plan: Plan) -> list[str]:
    return [note for note in plan.notes if "does not fit" in note]


@pytest.mark.usefixtures("known_rates")
def test_what_does_not_fit_is_said(
    small_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(build={"tokens": 2 * 10**9})  # some 700 GiB of states
    monkeypatch.setattr("nas._memory.memory_at_hand", lambda _: 100 * 2**30)
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage(path, tmp_path))
    here, gpu = _shortages(make_plan(config, tmp_path / "not" / "there"))
    assert here.startswith("does not fit: build takes ")
    assert here.endswith("100.0 GiB are at hand (cpu)")
    assert gpu.startswith("does not fit into rtx4090: build takes ")
    assert gpu.endswith("it has 24.0 GiB")
    assert _shortages(make_plan(small_config(), tmp_path)) == []


class _Usage:
    """A disk of 40 MiB, and everything else in plenty."""

    def __init__(self, path: Path, there: Path) -> None:
        assert path == there
        self.free = 40 * 2**20


@pytest.mark.usefixtures("known_rates")
def test_a_full_disk_is_said(
    small_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage(path, tmp_path))
    samples = {**SAMPLES, "tokens": 2**23}
    config = small_config(data={"sources": [{"kind": "python_docs"}, samples]})
    (note,) = _shortages(make_plan(config, tmp_path))
    assert note.startswith("does not fit: the run takes ")
    assert note.endswith("of disk, 40 MiB are free")


@pytest.mark.usefixtures("known_rates")
def test_a_row_of_every_pass_that_takes_time(small_config: MakeConfig) -> None:
    here = {"hardware": "local", "meter": "onnxruntime"}
    onnx = {"formats": ["onnx"]}
    scenarios = {"scenarios": {"chat": {"prompt_tokens": 8}}}
    plans = {
        "roofline": make_plan(small_config(export=onnx)),
        "measured": make_plan(small_config(export=onnx, target=here)),
        "twice": make_plan(small_config(export=onnx, target={**here, **scenarios})),
    }
    of_profile = {name: _rows(plan)["profile"] for name, plan in plans.items()}
    assert {name: row.units for name, row in of_profile.items()} == {
        "roofline": 0,
        "measured": 2,  # latencies, and layers
        "twice": 3,
    }
    assert of_profile["roofline"].seconds == 0
    assert of_profile["twice"].seconds == 2 * of_profile["measured"].seconds > 0
    for plan in plans.values():
        missing = {step.name for step in PASSES} - set(_rows(plan))
        assert missing == {"space"}
        assert _rows(plan)["report"].units == 1


@pytest.mark.usefixtures("known_rates")
def test_workers_are_no_faster_than_what_travels_to_them(
    small_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(build={"tokens": 10**9})
    fast = {(s.device, s.workers): s for s in make_plan(config).sizes}
    monkeypatch.setattr("nas.passes.plan._NETWORK_GBIT_PER_S", 1)
    plan = make_plan(config)
    build, score = (_rows(plan)[name].transfer_mib * 2**20 * 8 / 1e9 for name in ("build", "score"))
    for size in plan.sizes:
        if size.workers == 1:
            assert size == fast[size.device, 1]
        else:
            assert size.build_s == pytest.approx(build, rel=1e-3)
            assert size.build_s > fast[size.device, size.workers].build_s
            assert size.score_s >= score - 0.1
    assert any("assumed 1 Gbit/s" in note for note in plan.notes)
