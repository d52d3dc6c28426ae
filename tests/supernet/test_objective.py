"""Relations between student and teacher, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nas.errors import ConfigError
from nas.supernet import RelationObjective, SuperNetwork, look
from tests.supernet.encoders import encoder, spec, windows


def test_the_loss_by_hand() -> None:
    ids, chosen = windows(2, tokens=5), spec(2, 3, 16, 1.0)
    teacher, student = encoder(), SuperNetwork(encoder(seed=1), spec(3, 4, 24, 1.5)).extract(chosen)
    objective = RelationObjective(3, similarity_weight=2.0)

    found = objective.loss(look(student, ids, embeds=True), objective.goal(teacher, ids))

    theirs, ours = (look(chain, ids, embeds=True) for chain in (teacher, student))
    total = 0.0
    for large, small in zip(theirs.vectors, ours.vectors, strict=True):
        for text in range(2):
            for part in range(3):
                # 24 and 12 channels are cut into three parts each.
                a, b = (
                    large[text, :, 8 * part : 8 * part + 8],
                    small[text, :, 4 * part : 4 * part + 4],
                )
                p, q = torch.softmax(a @ a.T / math.sqrt(8), -1), torch.softmax(b @ b.T / 2, -1)
                total += float((p * (p / q).log()).sum()) / (2 * 3 * 5)
    assert theirs.embeddings is not None
    assert ours.embeddings is not None
    cosines = [
        torch.cosine_similarity(e[0], e[1], dim=0) for e in (theirs.embeddings, ours.embeddings)
    ]
    total += 2.0 * float((cosines[0] - cosines[1]) ** 2)
    assert math.isclose(float(found), total, rel_tol=1e-4)


def test_the_teacher_has_nothing_to_learn() -> None:
    ids, teacher, objective = windows(4), encoder(), RelationObjective(4, 1.0)

    loss = objective.loss(look(teacher, ids, embeds=True), objective.goal(teacher, ids))

    assert abs(float(loss)) < 1e-5


@pytest.mark.parametrize("wrong", [{"relation_heads": 0}, {"similarity_weight": -1.0}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        RelationObjective(**wrong)  # type: ignore[arg-type]
