"""The whole line on small transformers over pictures: the same passes, files and report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nas.backends.onnxruntime import OnnxClassifier
from nas.chain import VisionChain, normalised
from nas.cli import main
from nas.compiler import compile_run, make_plan, pack_blocks
from nas.config import RunConfig, validate_config
from nas.errors import CapabilityError, ConfigError
from nas.executors import ProcessPool
from nas.report import load_summary
from nas.run import RunDirectory
from nas.teachers import load_teacher
from tests.pictures import pictures, write_pictures
from tests.vits import SIDE, random_timm_vit, save_tiny_vit, write_timm_vit

SETTINGS: dict[str, Any] = {
    "name": "vit",
    "space": "vit",
    "target": {"batch": 2, "repeats": 3, "phases": ["prefill"]},
    "budgets": {"params_m": 0.0165, "latency_ms": 1000},
    "build": {"tokens": 64, "epochs": 1, "batch_tokens": 16},
    "refine": {"rounds": 1, "radius": 2},
    "assemble": {"refit_tokens": 64},
    "distill": {
        "steps": 4,
        "batch_tokens": 16,
        "micro_batch_tokens": 8,
        "relation_weight": 1.0,
        "relation_heads": 2,
    },
    "baselines": ["uniform_ffn", "depth_cut_within"],
}

TAKES = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"shortest_edge": 18},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
}
NAMES = dict(enumerate(["apple", "bee", "cat", "dog", "egg"]))


def _settings(root: Path, teacher: Path, **changes: Any) -> dict[str, Any]:
    data = {
        "sources": [
            {"kind": "images", "path": str(write_pictures(root / "train.npz", 120, side=SIDE))}
        ],
        "score_sequences": 12,
    }
    test = str(write_pictures(root / "test.npz", 30, side=SIDE))
    own = {"teacher": {"source": str(teacher)}, "data": data, "evaluate": {"images": [test]}}
    return {**SETTINGS, **own, **changes}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    root = tmp_path_factory.mktemp("vit")
    teacher = save_tiny_vit(root / "teacher", preprocessor=TAKES, id2label=NAMES)
    return validate_config(_settings(root, teacher), "test")


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vit-run") / "run"
    compile_run(config, RunDirectory.create(root))
    return root


def test_the_run_holds_what_the_guide_promises(finished: Path) -> None:
    for name in (
        "costs/costs.json",
        "library/layers.1.ffn/linear/block.safetensors",
        "student/model.safetensors",
        "student/preprocessor_config.json",
        "onnx/teacher/model.onnx",
        "onnx/depth_cut_within/model.onnx",
        "layers.json",
        "report/report.html",
    ):
        assert (finished / name).is_file(), name


def test_the_student_takes_pictures_as_the_teacher(finished: Path) -> None:
    said = json.loads((finished / "student/preprocessor_config.json").read_text())
    assert {key: said[key] for key in TAKES} == TAKES
    config = json.loads((finished / "student/config.json").read_text())
    assert config["id2label"] == {str(i): name for i, name in NAMES.items()}


def test_the_summary_tells_of_classes(finished: Path) -> None:
    summary = load_summary(finished / "report" / "summary.json")
    student = summary.student.quality
    assert student is not None
    assert student.kl_nats is not None
    assert student.kl_nats > 0
    assert student.top1_agreement is not None
    assert summary.teacher.image_side == SIDE
    assert summary.pictures
    steps = summary.student.distillation
    assert steps is not None
    assert (steps.steps, steps.tokens) == (4, 64)
    (task,) = summary.tasks
    assert (task.metric, task.examples) == ("accuracy", 30)
    assert all(budget.slack >= 0 for budget in summary.budgets)
    assert all(gate.passed for file in summary.files for gate in file.gates)
    page = (finished / "report" / "report.html").read_text(encoding="utf-8")
    assert "KL, nats a picture" in page
    assert "Perplexity" not in page


def test_student_files_agree_with_each_other(config: RunConfig, finished: Path) -> None:
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(
        finished / "student", trust_remote_code=True
    ).eval()
    shape = load_teacher(config.teacher).chain.shape
    values = normalised(pictures(5, seed=9, side=SIDE), shape)
    with torch.no_grad():
        expected = model(values).logits.numpy()
    network = OnnxClassifier(finished / "onnx" / "student" / "model.onnx")
    np.testing.assert_allclose(network.run(values.numpy()), expected, atol=1e-4)


def test_a_second_run_does_nothing_and_is_listed(config: RunConfig, finished: Path) -> None:
    assert compile_run(config, RunDirectory.open(finished)).nothing_to_do
    listed = CliRunner().invoke(main, ["ls", "--runs", str(finished.parent), "-f", "json"])
    assert listed.exit_code == 0, listed.output
    found = json.loads(listed.output)
    assert Path(found["runs"][0]["name"]).name == finished.name
    assert "vit" in {space["name"] for space in found["spaces"]}


def test_engines_are_built_of_a_run(config: RunConfig, finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    root = shutil.copytree(finished, tmp_path / "run")
    data = config.model_dump(mode="json")
    data["export"] |= {"formats": ["onnx", "tensorrt_rtx"], "sm": [89]}
    outcome = compile_run(validate_config(data, "test"), RunDirectory.open(root), stop="export")
    assert list(outcome.done) == ["export"]
    (manifest,) = (root / "engines").glob("tensorrt_rtx/*/manifest.json")
    profiles = json.loads(manifest.read_text())["profiles"]
    assert profiles["prefill"]["pixel_values"][2] == [2, 3, SIDE, SIDE]


def test_an_interrupted_run_goes_on(config: RunConfig, tmp_path: Path) -> None:
    root = tmp_path / "run"
    compile_run(config, RunDirectory.create(root), stop="build")
    outcome = compile_run(config, RunDirectory.open(root), stop="score")
    assert "build" not in outcome.done
    assert "score" in outcome.done


def test_a_pool_builds_and_scores_the_same_bytes(config: RunConfig, tmp_path: Path) -> None:
    compile_run(config, RunDirectory.create(tmp_path / "here"), stop="score")
    pool = ProcessPool(2, threads=1)
    compile_run(config, RunDirectory.create(tmp_path / "there"), stop="score", executor=pool)
    assert _digests(tmp_path / "here") == _digests(tmp_path / "there")


def _digests(root: Path) -> dict[str, str]:
    units = [json.loads(path.read_text()) for path in sorted((root / "units").rglob("*.json"))]
    found = {name: str(digest) for u in units for name, digest in u["files"].items()}
    kept = {n: d for n, d in found.items() if n.endswith((".safetensors", ".parquet"))}
    assert len(kept) > 12
    return kept


def test_a_network_without_a_classifier_keeps_its_embeddings(tmp_path: Path) -> None:
    """In timm's layout, with the mean over its patches."""
    model = random_timm_vit(pool="avg", classes=0, scales=True)
    path = write_timm_vit(model, tmp_path / "teacher.safetensors")
    settings = _settings(tmp_path, path, evaluate={}, budgets={"params_m": 0.15})
    root = tmp_path / "run"
    compile_run(validate_config(settings, "test"), RunDirectory.create(root))
    summary = load_summary(root / "report" / "summary.json")
    student = summary.student.quality
    assert student is not None
    assert student.kl_nats is None
    assert student.cosine_distance is not None
    assert student.cosine_distance > 0
    assert student.similarity_spearman is not None
    assert all(gate.passed for file in summary.files for gate in file.gates)
    page = (root / "report" / "report.html").read_text(encoding="utf-8")
    assert "Recall@10" in page
    chain = load_teacher(validate_config(settings, "test").teacher).chain
    assert isinstance(chain, VisionChain)
    values = normalised(pictures(3, side=SIDE), chain.shape)
    said = OnnxClassifier(root / "onnx" / "teacher" / "model.onnx").run(values.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(said, model(values).numpy(), atol=1e-4)
    assert compile_run(validate_config(settings, "test"), RunDirectory.open(root)).nothing_to_do


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target": {"phases": ["prefill", "decode"]}}, "decodes nothing"),
        ({"data": {"sources": [{"kind": "python_docs"}]}}, "reads pictures"),
        ({"evaluate": {"pairs": ["pairs.jsonl"]}}, "this needs an encoder"),
        ({"teacher": {"image": {"side": 32}}}, "leave it out"),
        ({"distill": {"relation_heads": 99}}, "99 relation heads do not fit"),
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


def test_pictures_of_another_size_are_refused_with_both(config: RunConfig, tmp_path: Path) -> None:
    data = config.model_dump(mode="json")
    path = write_pictures(tmp_path / "other.npz", 120, side=24)
    data["data"]["sources"] = [{"kind": "images", "path": str(path)}]
    with pytest.raises(ConfigError, match=r"pictures of 24 x 24, the teacher takes 16 x 16"):
        compile_run(validate_config(data, "test"), RunDirectory.create(tmp_path / "run"))


def test_accuracy_needs_a_classifier(config: RunConfig, tmp_path: Path) -> None:
    data = config.model_dump(mode="json")
    data["teacher"]["source"] = str(save_tiny_vit(tmp_path / "t", "ViTModel"))
    with pytest.raises(ConfigError, match="is a vit without a classifier"):
        compile_run(validate_config(data, "test"), RunDirectory.create(tmp_path / "run"))


def test_what_is_of_text_alone_says_so(config: RunConfig, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="forecasts transformers over text"):
        make_plan(config)
    with pytest.raises(CapabilityError, match="packs and calibrations are of transformers"):
        pack_blocks(config, RunDirectory.open(finished), tmp_path / "pack")
