"""Similarities and neighbours against plain computations, and files of pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.errors import ConfigError, PassError
from nas.evaluation import compare_embeddings, embedding_quality, rank_pairs, read_pairs
from nas.ir import Architecture
from tests.encoders import encoder_tokenizer, tiny_encoder

TEACHER = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
STUDENT = TEACHER + 0.5 * torch.randn(20, 6, generator=torch.Generator().manual_seed(1))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_against_plain_loops() -> None:
    found = compare_embeddings(TEACHER, STUDENT)
    t, s = TEACHER.numpy(), STUDENT.numpy()
    assert found.distance[3] == pytest.approx(1 - _cosine(t[3], s[3]), rel=1e-5)
    pairs = [(i, j) for i in range(20) for j in range(i)]
    ranks = [
        np.argsort(np.argsort([_cosine(e[i], e[j]) for i, j in pairs])).astype(float)
        for e in (t, s)
    ]
    assert found.similarity_spearman == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-6)
    hits = 0
    for i in range(20):
        near = [
            set(sorted((j for j in range(20) if j != i), key=lambda j: -_cosine(e[i], e[j]))[:10])
            for e in (t, s)
        ]
        hits += len(near[0] & near[1])
    assert found.recall_at_10 == pytest.approx(hits / 200)


def test_a_teacher_is_its_own_equal() -> None:
    teacher, student = tiny_encoder(architecture=Architecture()), tiny_encoder()
    windows = torch.randint(4, 200, (14, 9), generator=torch.Generator().manual_seed(0))
    found = embedding_quality(teacher, {"student": student}, windows)
    assert found["teacher"].distance_mean == 0
    assert found["teacher"].similarity_spearman == pytest.approx(1)
    assert found["teacher"].recall_at_10 == 1
    assert found["student"].distance_mean > 0
    with pytest.raises(PassError, match="at least 3 texts"):
        embedding_quality(teacher, {}, windows[:2])


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


TEXTS = ["the a of", "is in and", "be for that as it", "or an", "if with this by not on can"]


def test_pairs_are_ranked_with_the_teacher_or_with_scores(tmp_path: Path) -> None:
    rows = [{"a": a, "b": b} for a in TEXTS for b in TEXTS if a < b]
    pairs = read_pairs(_write(tmp_path / "p.jsonl", rows))  # type: ignore[arg-type]
    models = {"teacher": tiny_encoder(architecture=Architecture()), "student": tiny_encoder()}
    ranks = rank_pairs(pairs, models, encoder_tokenizer())
    assert ranks["teacher"] == pytest.approx(1)
    assert -1 <= ranks["student"] < 1
    scored = [{**row, "score": i} for i, row in enumerate(rows)]
    gold = rank_pairs(read_pairs(_write(tmp_path / "s.jsonl", scored)), models, encoder_tokenizer())
    assert gold["teacher"] < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": "x", "b": "y"}', "1 pairs; at least 3"),
        ('{"a": "x"}\n' * 3, "line 1: expected"),
        ("[]\n" * 3, "line 1: expected"),
        ('{"a": "x", "b": "y"}\n' * 3 + '{"a": "x", "b": "y", "score": 1}', "all or none"),
    ],
)
def test_files_that_are_not_pairs(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_pairs(tmp_path / "p.jsonl")
