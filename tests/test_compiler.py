"""The whole line on a small teacher, measured in ONNX Runtime for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.compiler import PASSES, Pass, _timed, compile_run, make_plan, solve_again
from nas.config import RunConfig, validate_config
from nas.errors import ArtifactError, ConfigError
from nas.passes import Artefacts, PassContext
from nas.passes.report import _passes
from nas.readers import read_status
from nas.report import load_summary
from nas.run import RunDirectory


@pytest.fixture(scope="module")
def config(tiny_folder: Callable[[str], Path]) -> RunConfig:
    settings: dict[str, Any] = {
        "name": "whole",
        "teacher": {"source": str(tiny_folder("llama"))},
        "data": {
            "sequence_length": 32,
            "score_sequences": 3,
            "evaluate_tokens": 320,
            "train_tokens": 3200,
        },
        "target": {"prompt_tokens": 16, "output_tokens": 8, "repeats": 3},
        "budgets": {"params_m": 0.026, "latency_ms": 1000},  # a time that no machine misses
        "build": {"tokens": 1280},
        "distill": {"steps": 4, "batch_tokens": 128, "micro_batch_tokens": 128},
        "export": {"formats": ["huggingface", "onnx"], "greedy_tokens": 8},
        "evaluate": {"generations": 2, "prompt_tokens": 8, "generate_tokens": 8},
    }
    return validate_config(settings, "test")


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "run"
    compile_run(config, RunDirectory.create(root))
    return root


def _files(root: Path) -> dict[str, float]:
    """When each file was last written; the lock and the log are touched by looking."""
    own = ("run.lock", "events.jsonl")
    found = (p for p in root.rglob("*") if p.is_file() and p.name not in own)
    return {str(p): p.stat().st_mtime_ns for p in found}


def test_the_run_holds_what_the_guide_promises(finished: Path) -> None:
    for name in (
        "config.resolved.yaml",
        "teacher.json",
        "space.json",
        "costs/costs.json",
        "library/layers.1.ffn/linear/block.safetensors",
        "scores/layers.1.ffn.parquet",
        "student/config.json",
        "student/model.safetensors",
        "onnx/student/model.onnx",
        "onnx/student/genai_config.json",
        "onnx/teacher/model.onnx",
        "profile.json",
        "layers.json",
        "report/report.html",
    ):
        assert (finished / name).is_file(), name
    suffixes = {p.suffix for p in finished.rglob("*") if p.is_file()}
    assert not suffixes & {".pkl", ".pt", ".pth", ".bin"}


def test_a_run_without_refinement_is_finished(finished: Path) -> None:
    assert read_status(RunDirectory.open(finished)).state == "finished"


def test_the_summary_tells_of_teacher_student_and_baseline(finished: Path) -> None:
    summary = load_summary(finished / "report" / "summary.json")
    assert [m.name for m in summary.models] == ["teacher", "student", "uniform_ffn"]
    assert summary.solution is not None
    assert summary.solution.status == "proven"
    assert summary.student.params_m <= 0.026
    assert summary.teacher_model.quality is not None
    assert summary.teacher_model.quality.kl_nats == pytest.approx(0, abs=1e-6)
    for model in summary.models:
        assert {row.phase for row in model.latency} == {"prefill", "decode"}
        assert all(row.measured_median_ms for row in model.latency)
        assert all(row.pace for row in model.latency)
        assert all(row.error_at_pace_percent is not None for row in model.latency)
    gates = [gate for file in summary.files for gate in file.gates]
    assert gates
    assert all(gate.passed for gate in gates)


def test_a_second_run_does_nothing(finished: Path, config: RunConfig) -> None:
    before = _files(finished)
    outcome = compile_run(config, RunDirectory.open(finished))
    assert outcome.nothing_to_do
    assert _files(finished) == before


def test_another_budget_is_solved_without_touching_anything_else(
    finished: Path, config: RunConfig
) -> None:
    before = _files(finished)
    tighter = config.model_copy(
        update={"budgets": config.budgets.model_copy(update={"params_m": 0.024})}
    )
    first = solve_again(config, RunDirectory.open(finished))
    solution = solve_again(tighter, RunDirectory.open(finished))
    assert solution.costs["params_m"] <= 0.024 < first.costs["params_m"]
    assert solution.objective is not None
    assert first.objective is not None
    assert solution.objective >= first.objective
    changed = {k for k, v in _files(finished).items() if before.get(k) != v}
    allowed = ("/solutions/", "/units/solve/")
    assert all(any(part in path for part in allowed) for path in changed)


def test_passes_before_the_first_must_be_up_to_date(finished: Path, config: RunConfig) -> None:
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(ArtifactError, match="run from the pass"):
        compile_run(other, RunDirectory.open(finished), start="export")
    stored = (finished / "config.resolved.yaml").read_text(encoding="utf-8")
    assert "seed: 0" in stored


def test_unknown_and_reversed_passes_are_refused(config: RunConfig, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(ConfigError, match="no pass is named"):
        compile_run(config, run, start="scores")
    with pytest.raises(ConfigError, match="comes after"):
        compile_run(config, run, start="solve", stop="build")


def test_events_tell_what_each_pass_took(finished: Path) -> None:
    lines = (finished / "events.jsonl").read_text(encoding="utf-8").splitlines()
    names = [e["name"] for e in map(json.loads, lines) if e["event"] == "pass"]
    idle = {"prune", "refine"}  # everything is kept here, and there are no rounds
    assert names == [p.name for p in PASSES if p.name not in idle]


def test_what_is_told_of_a_pass_is_its_own(tmp_path: Path) -> None:
    """Units made and read back in it, and the memory that it took."""
    run = RunDirectory.create(tmp_path / "run")

    def large(_: Artefacts) -> None:
        run.store("build/a", "k", data=len(b"x" * 2**28))

    def small(_: Artefacts) -> None:
        assert run.fetch("build/a", "k")
        assert run.fetch("build/a", "k")
        run.store("score/a", "k")

    artefacts = Artefacts(PassContext(RunConfig.model_construct(), run))
    for name, work in (("build", large), ("score", small), ("solve", lambda _: None)):
        _timed(run, Pass(name, "", work), artefacts)
    first, second = _passes(artefacts.context)
    assert [(row.units_done, row.units_reused) for row in (first, second)] == [(1, 0), (1, 2)]
    assert first.peak_memory_mib is not None
    assert second.peak_memory_mib is not None
    assert first.peak_memory_mib > 256
    if Path("/proc/self/clear_refs").exists():
        assert second.peak_memory_mib < first.peak_memory_mib - 200


def test_the_plan_counts_what_the_run_made(finished: Path, config: RunConfig) -> None:
    rows = {row.pass_name: row for row in make_plan(config).rows}
    made = list((finished / "units" / "build").rglob("*.json"))
    assert rows["build"].units == len(made)
    for name in ("prune", "refine"):
        assert rows[name].units == rows[name].seconds == 0
    assert all(row.seconds >= 0 for row in rows.values())


def test_the_plan_counts_what_pruning_leaves(config: RunConfig) -> None:
    pruned = config.model_copy(update={"prune": config.prune.model_copy(update={"keep": 0.25})})
    whole, less = ({r.pass_name: r for r in make_plan(c).rows} for c in (config, pruned))
    assert less["prune"].units == whole["build"].units
    assert less["build"].units == whole["build"].units // 4
    assert less["build"].disk_mib < whole["build"].disk_mib


def test_the_plan_prices_the_scoring_that_is_asked_for(config: RunConfig) -> None:
    def seconds(**changes: object) -> dict[str, float]:
        rows = make_plan(config.model_copy(update=changes)).rows
        return {row.pass_name: row.seconds for row in rows}

    fast = config.score.model_copy(update={"method": "one_backward", "draws": 1})
    assert seconds(score=fast)["score"] <= seconds()["score"]
    assert seconds(refine=config.refine.model_copy(update={"rounds": 1000}))["refine"] > 0
