"""Distilling the winner: it learns to agree, the seed decides, what is saved loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from nas.errors import ConfigError
from nas.networks import CifarResNetSpec, load_image_teacher, resnet_state
from nas.objectives import relation_loss, semantic_loss
from nas.search import SearchRequest, search


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that tells the colours of the pictures apart."""
    network = CifarResNetSpec((1, 1, 1), (4, 4, 4), classes=3, image_size=4).build(0).train()
    labels = torch.arange(300) % 3
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(300, 3, 4, 4, generator=generator)
    pictures += 2 * torch.eye(3)[labels][:, :, None, None]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(network(pictures), labels).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(resnet_state(network), path)
    return path


@pytest.fixture
def asked(space: str, pictures: Path, teacher: Path) -> SearchRequest:
    return SearchRequest(
        space,
        proxies=("near_best",),
        data=pictures,
        teacher=str(teacher),
        limits=("depth=8",),
        distill=60,
    )


def test_a_student_learns_to_agree_and_what_is_saved_computes(
    asked: SearchRequest, tmp_path: Path
) -> None:
    saved = tmp_path / "student.safetensors"

    first, second = search(replace(asked, save=saved)).distilled, search(asked).distilled
    untrained = search(replace(asked, distill=1)).distilled

    assert first is not None
    assert second is not None
    assert untrained is not None
    assert (first.architecture, first.steps, first.test_pictures) == ("1-1-1", 60, 30)
    assert first.agreement == second.agreement
    assert first.agreement > max(0.6, untrained.agreement)
    assert first.teacher_accuracy > 0.8
    assert load_image_teacher(str(saved)).spec.blocks == (1, 1, 1)


def test_an_objective_of_diswot_changes_the_student(asked: SearchRequest, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("plain", "relation")]
    search(replace(asked, distill=2, save=paths[0]))
    search(replace(asked, distill=2, save=paths[1], objectives=("relation",)))

    plain, relation = (load_image_teacher(str(path)) for path in paths)

    assert not torch.equal(plain.stem[0].weight, relation.stem[0].weight)


def test_an_unknown_objective_is_refused(asked: SearchRequest) -> None:
    with pytest.raises(ConfigError, match="no objective 'relations'"):
        search(replace(asked, objectives=("relations",)))


def test_the_relation_loss_by_hand() -> None:
    student, teacher = torch.randn(5, 3, 2, 2), torch.randn(5, 7, 4, 4)
    total = 0.0
    for i in range(5):
        rows = [
            F.normalize(torch.stack([(x[i] * x[j]).sum() for j in range(5)]), dim=0)
            for x in (student, teacher)
        ]
        total += float((rows[0] - rows[1]).square().sum())

    assert relation_loss(student, teacher).item() == pytest.approx(total / 5, rel=1e-4)
    assert relation_loss(student, 3 * student).item() == pytest.approx(0.0, abs=1e-6)


def test_the_semantic_loss_by_hand() -> None:
    shape, labels = (4, 3, 2, 2), torch.tensor([0, 1, 1, 0])
    features = [torch.randn(shape) for _ in range(2)]
    weights = [torch.randn(2, 3) for _ in range(2)]
    grams = []
    for x, w in zip(features, weights, strict=True):
        gram = torch.zeros(3, 3)
        for n in range(4):
            for c in range(3):
                for d in range(3):
                    scale = w[labels[n], c] * w[labels[n], d]
                    gram[c, d] += scale * (x[n, c] * x[n, d]).sum()
        grams.append(F.normalize(gram, dim=1))
    expected = (grams[0] - grams[1]).square().sum() / 3

    found = semantic_loss(*features, *weights, labels)

    torch.testing.assert_close(found, expected)
    same = semantic_loss(features[0], features[0], weights[0], weights[0], labels)
    assert same.item() == pytest.approx(0.0, abs=1e-6)
