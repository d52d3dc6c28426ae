"""What a transformer over pictures is judged and taught by."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nas.chain import VisionChain
from nas.ir import Architecture
from nas.objectives import ClassObjective, Lesson, lesson_for, objective_of
from tests.pictures import pictures
from tests.vits import SIDE, tiny_vit, vit_shape

BATCH = pictures(6, side=SIDE)
HEADED = [{}, {"prefix_tokens": 2, "pooling": "both"}, {"pooling": "mean", "pools_first": True}]


def _pair(**changes: object) -> tuple[VisionChain, VisionChain]:
    shape = vit_shape(**changes)
    return tiny_vit(shape, Architecture()), tiny_vit(shape)


@torch.no_grad()
def _hidden(chain: VisionChain) -> torch.Tensor:
    return chain.exact_hidden(chain.run(chain.embed_tokens(BATCH), chain.context(BATCH)))


@pytest.mark.parametrize("changes", HEADED)
def test_scores_are_the_kl_of_classes(changes: dict[str, object]) -> None:
    teacher, student = _pair(**changes)
    student.head.weight.data.copy_(teacher.head.weight)  # type: ignore[union-attr]
    p, q = (chain(BATCH).log_softmax(-1) for chain in (teacher, student))
    expected = (p.exp() * (p - q)).sum(-1)
    found = objective_of(teacher).divergence(_hidden(teacher))(_hidden(student))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_lessons_are_those_of_classes() -> None:
    teacher, student = _pair()
    lesson = Lesson(temperature=4.0)
    taught = lesson_for(student, lesson)
    assert isinstance(taught, ClassObjective)
    goal = lesson_for(teacher, lesson).goal(_hidden(teacher))
    p, q = ((chain(BATCH) / 4).log_softmax(-1) for chain in (teacher, student))
    expected = 16 * (p.exp() * (p - q)).sum(-1).mean()
    torch.testing.assert_close(taught.loss(_hidden(student), goal), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_without_a_classifier_it_is_the_distance_of_embeddings(pooling: str) -> None:
    teacher, student = _pair(classes=0, pooling=pooling)
    expected = 1 - F.cosine_similarity(teacher(BATCH), student(BATCH), dim=-1)
    for objective in (objective_of(teacher), lesson_for(teacher, Lesson())):
        found = objective.divergence(_hidden(teacher))(_hidden(student))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
