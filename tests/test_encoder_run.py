"""The whole line on a small encoder: the same passes, files and report as for a decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.backends.onnxruntime import OnnxEncoder
from nas.compiler import compile_run, make_plan
from nas.config import ObjectiveConfig, RunConfig, validate_config
from nas.errors import ConfigError
from nas.executors import ProcessPool
from nas.passes import Artefacts, PassContext
from nas.passes.draft import Drafts
from nas.passes.prune import one_backward_of_drafts
from nas.report import load_summary
from nas.run import RunDirectory
from tests.encoders import save_tiny_encoder

WRITTEN = {
    "sequence_length": 24,
    "sources": [{"kind": "python_docs"}, {"kind": "teacher_samples"}],
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    root = tmp_path_factory.mktemp("encoder")
    folder = save_tiny_encoder(root / "teacher", pooling="mean_tokens")
    words = ["the", "of", "a", "to", "is"]
    rows = [{"a": f"{a} {b}", "b": f"{b} in {a}"} for a in words for b in words if a != b]
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings: dict[str, Any] = {
        "name": "encoder",
        "teacher": {"source": str(folder)},
        "data": {
            "sequence_length": 24,
            "score_sequences": 4,
            "evaluate_tokens": 480,
            "train_tokens": 2640,
        },
        "space": "encoder",
        "target": {"prompt_tokens": 16, "batch": 2, "repeats": 3, "phases": ["prefill"]},
        "budgets": {"params_m": 0.0195, "latency_ms": 1000},
        "build": {"tokens": 1280, "epochs": 1},
        "refine": {"rounds": 1, "radius": 2},
        "distill": {"steps": 4, "batch_tokens": 128, "micro_batch_tokens": 64},
        "evaluate": {"pairs": [str(root / "pairs.jsonl")]},
    }
    return validate_config(settings, "test")


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoder-run") / "run"
    compile_run(config, RunDirectory.create(root))
    return root


def test_the_run_holds_what_the_guide_promises(finished: Path) -> None:
    for name in (
        "costs/costs.json",
        "library/layers.1.ffn/linear/block.safetensors",
        "student/model.safetensors",
        "student/modules.json",
        "student/modeling_nas_encoder.py",
        "onnx/teacher/model.onnx",
        "onnx/student/tokenizer.json",
        "layers.json",
        "report/report.html",
    ):
        assert (finished / name).is_file(), name


def test_the_summary_tells_of_embeddings(finished: Path) -> None:
    summary = load_summary(finished / "report" / "summary.json")
    assert [model.role for model in summary.models][:2] == ["teacher", "student"]
    student = summary.student.quality
    assert student is not None
    assert student.kl_nats is None
    assert student.cosine_distance is not None
    assert student.cosine_distance > 0
    assert summary.teacher_model.quality is not None
    assert summary.teacher_model.quality.similarity_spearman == pytest.approx(1)
    assert [task.metric for task in summary.tasks] == ["Spearman with the teacher"]
    assert all(budget.slack >= 0 for budget in summary.budgets)
    assert all(gate.passed for file in summary.files for gate in file.gates)
    page = (finished / "report" / "report.html").read_text(encoding="utf-8")
    assert "Recall@10" in page
    assert "Perplexity" not in page


def test_student_files_agree_with_each_other(finished: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(finished / "student")
    encoded = tokenizer(["the of a", "to is in and are be"], padding=True, return_tensors="pt")
    model = AutoModel.from_pretrained(finished / "student", trust_remote_code=True).eval()
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    with torch.no_grad():
        states = model(ids, attention_mask=mask).last_hidden_state
    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    expected = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    encoder = OnnxEncoder(finished / "onnx" / "student" / "model.onnx")
    _, embeddings = encoder.run(ids.numpy(), mask.numpy())
    np.testing.assert_allclose(embeddings, expected, atol=1e-4)


def test_a_second_run_does_nothing(config: RunConfig, finished: Path) -> None:
    assert compile_run(config, RunDirectory.open(finished)).nothing_to_do


def test_similarities_are_asked_for_by_scores_and_distillation(
    config: RunConfig, tmp_path: Path
) -> None:
    """With and without them the same run differs from the scores on, and is not taken for done."""
    root = tmp_path / "run"
    plain = config.model_copy(update={"objective": ObjectiveConfig(similarity_weight=0)})
    compile_run(plain, RunDirectory.create(root), stop="distill")
    before = _scores(root)
    outcome = compile_run(config, RunDirectory.open(root), stop="distill")
    after, loss = _scores(root), _loss(root)
    assert not {"build", "measure"} & outcome.done.keys()
    assert {"score", "assemble", "distill"} <= outcome.done.keys()
    # A term is added, and none is taken away.
    assert all(after[name] > before[name] for name in before)
    distill = config.distill.model_copy(update={"similarity_weight": 1.0})
    again = config.model_copy(update={"distill": distill})
    outcome = compile_run(again, RunDirectory.open(root), stop="distill")
    assert not {"score", "assemble"} & outcome.done.keys()
    assert _loss(root) > loss


def test_drafts_are_judged_anew_by_another_objective(config: RunConfig, tmp_path: Path) -> None:
    run, found = RunDirectory.create(tmp_path / "run"), []
    for weight in (0.0, 1.0):
        objective = ObjectiveConfig(similarity_weight=weight)
        context = PassContext(config.model_copy(update={"objective": objective}), run)
        candidates, drafts = Artefacts(context).space[:2], Drafts(context)
        drafts.make(candidates)
        found.append(one_backward_of_drafts(context, candidates, drafts))
    assert run.tally.done["prune"] == 2 + 2  # two drafts, looked at twice
    assert all(found[1][name] > found[0][name] for name in found[0])


def test_a_pool_scores_similarities_to_the_same_bytes(config: RunConfig, tmp_path: Path) -> None:
    compile_run(config, RunDirectory.create(tmp_path / "here"), stop="score")
    pool = ProcessPool(2, threads=1)
    compile_run(config, RunDirectory.create(tmp_path / "there"), stop="score", executor=pool)
    assert _scores(tmp_path / "here") == _scores(tmp_path / "there")


def _loss(root: Path) -> float:
    """Of the student's first step."""
    record = RunDirectory.open(root).require("distill/student")
    return float(record.data["kl"][0])


def _scores(root: Path) -> dict[str, float]:
    """Mean of every candidate."""
    run, found = RunDirectory.open(root), dict[str, float]()
    for path in (root / "units" / "score").glob("*.json"):
        means = run.require(f"score/{path.stem}").data["means"]
        found |= {f"{path.stem}/{label}": value for label, value in means.items()}
    return found


def test_a_plan_needs_no_weights(config: RunConfig) -> None:
    plan = make_plan(config)
    assert plan.rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": {"prompt_tokens": 16}}, r"use target\.phases: \[prefill\]"),
        ({"evaluate": {"lm_eval": ["piqa"]}}, "this needs a language model"),
        ({"data": {"sequence_length": 2}}, "leaves no room for text"),
        ({"data": WRITTEN}, "writes no text; remove teacher_samples"),
    ],
)
def test_what_only_decoders_do_is_refused_with_the_way_out(
    config: RunConfig, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    settings = {**config.model_dump(mode="json"), **changes}
    with pytest.raises(ConfigError, match=message):
        compile_run(validate_config(settings, "test"), RunDirectory.create(tmp_path / "run"))


@pytest.mark.parametrize(
    ("distill", "message"),
    [
        (
            {"relation_weight": 1.0, "relation_layer": 2, "relation_heads": 3},
            r"2 is none of the 2 layers",
        ),
        ({"relation_weight": 1.0, "relation_heads": 99}, "99 relation heads do not fit"),
    ],
)
def test_relations_that_are_not_there_are_refused(
    config: RunConfig, distill: dict[str, Any], message: str, tmp_path: Path
) -> None:
    settings = config.model_dump(mode="json")
    settings["distill"] |= distill
    with pytest.raises(ConfigError, match=message):
        compile_run(validate_config(settings, "test"), RunDirectory.create(tmp_path / "run"))


def test_a_masked_language_model_runs_whole(config: RunConfig, tmp_path: Path) -> None:
    """The same passes; what is kept are distributions of tokens, and files have logits."""
    folder = save_tiny_encoder(tmp_path / "teacher", masked=True)
    changes = {"teacher": {"source": str(folder)}, "evaluate": {}, "budgets": {"params_m": 0.021}}
    settings = {**config.model_dump(mode="json"), **changes}
    root = tmp_path / "run"
    compile_run(validate_config(settings, "test"), RunDirectory.create(root))

    summary = load_summary(root / "report" / "summary.json")
    student = summary.student.quality
    assert student is not None
    assert student.kl_nats is not None
    assert student.kl_nats > 0
    assert student.perplexity is not None
    assert student.cosine_distance is None
    assert all(gate.passed for file in summary.files for gate in file.gates)
    scores = _scores(root)
    assert scores["layers.0.ffn/skip"] > 0
    encoder = OnnxEncoder(root / "onnx" / "student" / "model.onnx")
    _, logits = encoder.run(np.full((2, 5), 7))
    assert logits.shape == (2, 5, 264)
    assert compile_run(validate_config(settings, "test"), RunDirectory.open(root)).nothing_to_do
