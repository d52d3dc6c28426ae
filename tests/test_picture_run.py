"""The whole line on a small residual network: the same passes, files and report as for texts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.backends.onnxruntime import OnnxClassifier
from nas.chain import ConvChain, normalised
from nas.compiler import compile_run, make_plan, pack_blocks
from nas.config import RunConfig, TargetConfig, validate_config
from nas.errors import CapabilityError, ConfigError
from nas.executors import ProcessPool
from nas.report import load_summary
from nas.run import RunDirectory
from nas.teachers import load_teacher, read_shape
from tests.pictures import (
    SIDE,
    ResNet,
    pictures,
    random_resnet,
    write_pictures,
    write_resnet,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    root = tmp_path_factory.mktemp("pictures")
    teacher = random_resnet(ResNet((3, 2, 2), (8, 12, 16), pads=True))
    settings: dict[str, Any] = {
        "name": "pictures",
        "teacher": {
            "source": str(write_resnet(teacher, root / "teacher.safetensors")),
            "image": {"side": SIDE},
        },
        "data": {
            "sources": [{"kind": "images", "path": str(write_pictures(root / "train.npz", 120))}],
            "score_sequences": 12,
        },
        "space": "resnet",
        "target": {"batch": 2, "repeats": 3, "phases": ["prefill"]},
        "budgets": {"params_m": 0.012, "latency_ms": 1000},
        "build": {"tokens": 64, "epochs": 1, "batch_tokens": 16},
        "refine": {"rounds": 1, "radius": 2},
        "assemble": {"refit_tokens": 64},
        "distill": {"steps": 4, "batch_tokens": 16, "micro_batch_tokens": 8},
        "baselines": ["uniform_ffn", "depth_cut"],
        "evaluate": {"images": [str(write_pictures(root / "test.npz", 30))]},
    }
    return validate_config(settings, "test")


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures-run") / "run"
    compile_run(config, RunDirectory.create(root))
    return root


def test_the_run_holds_what_the_guide_promises(finished: Path) -> None:
    for name in (
        "costs/costs.json",
        "library/layers.1.stage1/linear/block.safetensors",
        "student/model.safetensors",
        "student/student.py",
        "onnx/teacher/model.onnx",
        "onnx/depth_cut/model.onnx",
        "layers.json",
        "report/report.html",
    ):
        assert (finished / name).is_file(), name


def test_the_summary_tells_of_classes(finished: Path) -> None:
    summary = load_summary(finished / "report" / "summary.json")
    student = summary.student.quality
    assert student is not None
    assert student.kl_nats is not None
    assert student.kl_nats > 0
    assert student.top1_agreement is not None
    steps = summary.student.distillation
    assert steps is not None
    assert (steps.steps, steps.tokens) == (4, 64)
    (task,) = summary.tasks
    assert (task.metric, task.examples) == ("accuracy", 30)
    assert all(budget.slack >= 0 for budget in summary.budgets)
    assert all(gate.passed for file in summary.files for gate in file.gates)
    page = (finished / "report" / "report.html").read_text(encoding="utf-8")
    assert "Stage 2" in page
    assert "Perplexity" not in page


def test_student_files_agree_with_each_other(config: RunConfig, finished: Path) -> None:
    spec = importlib.util.spec_from_file_location("student", finished / "student" / "student.py")
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    model, batch = code.load(finished / "student"), pictures(5, seed=9)
    with torch.no_grad():
        expected = model(model.normalised(batch)).numpy()
    teacher = load_teacher(config.teacher).chain
    assert isinstance(teacher, ConvChain)
    values = normalised(batch, teacher.shape).numpy()
    network = OnnxClassifier(finished / "onnx" / "student" / "model.onnx")
    np.testing.assert_allclose(network.run(values), expected, atol=1e-4)


def test_a_second_run_does_nothing(config: RunConfig, finished: Path) -> None:
    assert compile_run(config, RunDirectory.open(finished)).nothing_to_do


def test_a_pool_builds_and_scores_the_same_bytes(config: RunConfig, tmp_path: Path) -> None:
    compile_run(config, RunDirectory.create(tmp_path / "here"), stop="score")
    pool = ProcessPool(2, threads=1)
    compile_run(config, RunDirectory.create(tmp_path / "there"), stop="score", executor=pool)
    assert _digests(tmp_path / "here") == _digests(tmp_path / "there")


def _digests(root: Path) -> dict[str, str]:
    units = [json.loads(path.read_text()) for path in sorted((root / "units").rglob("*.json"))]
    found = {name: str(digest) for u in units for name, digest in u["files"].items()}
    kept = {n: d for n, d in found.items() if n.endswith((".safetensors", ".parquet"))}
    assert len(kept) > 20
    return kept


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target": {"phases": ["prefill", "decode"]}}, "decodes nothing"),
        ({"data": {"sources": [{"kind": "python_docs"}]}}, "reads pictures"),
        ({"data": {"sources": [{"kind": "teacher_samples"}]}}, "reads pictures"),
        ({"evaluate": {"pairs": ["pairs.jsonl"]}}, "this needs an encoder"),
        ({"teacher": {"image": {"side": 16}}}, "resize them"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    config: RunConfig, change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    data = config.model_dump(mode="json")
    for section, values in change.items():
        data[section] |= values
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(ConfigError, match=says):
        compile_run(validate_config(data, "test"), run)
    assert not (tmp_path / "run" / "library").exists()


def test_what_is_of_transformers_alone_says_so(
    config: RunConfig, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(CapabilityError, match="forecasts transformers"):
        make_plan(config)
    with pytest.raises(CapabilityError, match="packs and calibrations are of transformers"):
        pack_blocks(config, RunDirectory.open(finished), tmp_path / "pack")


def test_a_roofline_orders_blocks(config: RunConfig) -> None:
    from nas.meters import create_meter, requests_for
    from search_spaces import load_space

    shape = read_shape(config.teacher)
    target = TargetConfig(hardware="rtx4090", meter="roofline", batch=256, dtype="float16")
    requests = requests_for(shape, load_space("resnet").candidates(shape), ["prefill"])
    table = create_meter(target, shape).cost_table(requests)
    times = {key: entry["prefill"].median_ms for key, entry in table.entries.items()}
    assert times["stage1/linear"] <= times["stage1/w4"] <= times["stage1/w8"]
    assert all(ms > 0 for ms in times.values())
