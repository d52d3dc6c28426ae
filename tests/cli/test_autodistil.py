"""`nas autodistil`: from a teacher's folder to a student's, and again with other limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModel

from tests.cli.conftest import Nas
from tests.models import save_tiny_teacher
from tests.supernet.encoders import LARGE, SMALL, save_encoder_teacher

pytest.importorskip("onnxruntime")


@pytest.fixture
def asked(tmp_path: Path) -> list[object]:
    for name, content in (("large", LARGE), ("small", SMALL)):
        (tmp_path / f"{name}.yaml").write_text(content)
    (tmp_path / "text.txt").write_text("All happy encoders are alike. " * 60)
    spaces = [x for name in ("large", "small") for x in ("--space", tmp_path / f"{name}.yaml")]
    return [
        *("autodistil", "--teacher", save_encoder_teacher(tmp_path / "teacher")),
        *("--text", tmp_path / "text.txt", "--output", tmp_path / "out", *spaces),
        *("--steps", 4, "--batch", 4, "--tokens", 12, "--relation-heads", 4, "--seed", 1),
    ]


def test_the_winner_is_a_model_of_its_own_and_training_is_not_repeated(
    nas: Nas, asked: list[object], tmp_path: Path
) -> None:
    first = nas(*asked, "--max", "params_m=0.012", "--finish", 2, "-f", "json")

    answer = json.loads(first.stdout)
    assert [space["students"] for space in answer["sub_spaces"]] == [16, 16]
    assert answer["winner"]["costs"]["params_m"] <= 0.012
    assert answer["winner"] == answer["ranked"][0]
    assert -1 <= answer["similarity_spearman"] <= 1
    assert answer == json.loads((tmp_path / "out" / "answer.json").read_text())
    hidden = AutoModel.from_pretrained(tmp_path / "out" / "student").config.hidden_size
    assert f"-H{hidden}-" in answer["winner"]["architecture"]
    assert (tmp_path / "out" / "onnx" / "model.onnx").is_file()

    weights = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "superlm").iterdir()}
    second = nas(*asked, "--max", "params_m=0.006", "-f", "table")

    assert "rank correlation of its similarities" in second.stdout
    assert len(weights) == 2
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "superlm").iterdir()} == weights


def test_pairs_and_a_measured_limit(nas: Nas, asked: list[object], tmp_path: Path) -> None:
    pairs = [{"a": f"text {i}", "b": "another " * i} for i in range(1, 4)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    options = ("--pairs", tmp_path / "pairs.jsonl", "--trials", 3, "--sub-spaces", 1)

    result = nas(*asked, *options, "--max", "latency_ms=1000", "--threads", 1, "-f", "json")

    answer = json.loads(result.stdout)
    assert (answer["judge"], answer["scored"], len(answer["sub_spaces"])) == ("pairs", 3, 1)
    assert answer["winner"]["latency_ms"] < 1000
    assert answer["conditions"]["batch"] == 8


def test_mistakes_have_their_exit_codes(nas: Nas, asked: list[object], tmp_path: Path) -> None:
    infeasible = nas(*asked, "--max", "params_m=0.0001")
    unknown = nas(*asked, "--max", "depth=3")
    asked[2] = save_tiny_teacher(tmp_path / "decoder", "llama")
    decoder = nas(*asked)

    assert (infeasible.exit_code, unknown.exit_code, decoder.exit_code) == (3, 2, 4)
    assert "the tightest feasible is params_m" in infeasible.stderr
    assert "is no encoder" in decoder.stderr
