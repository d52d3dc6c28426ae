"""How classes are taught: softened, standardised, and with DisWOT's metrics."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.objectives import ClassObjective, Lesson, lesson_for, objective_of
from tests.pictures import pictures, tiny_classifier

TEACHER, STUDENT = tiny_classifier(seed=1), tiny_classifier(seed=2)
BATCH = pictures(6)


def _seen(chain: object) -> tuple[Tensor, Tensor, Tensor]:
    """Last state, the classifier's input, logits."""
    from nas.chain import ConvChain

    assert isinstance(chain, ConvChain)
    with torch.no_grad():
        state = chain.run(chain.embed_tokens(BATCH), chain.context(BATCH))
        hidden = chain.final_hidden(state)
        return state, hidden, chain.head(hidden).squeeze(1)


def _loss(lesson: Lesson, student: object = STUDENT) -> float:
    state, hidden, _ = _seen(TEACHER)
    goal = ClassObjective(TEACHER.head, lesson).goal(hidden, state)
    mine, own, _ = _seen(student)
    head = STUDENT.head if student is STUDENT else TEACHER.head
    return float(ClassObjective(head, lesson).loss(own, goal, mine))


@pytest.mark.parametrize("heat", [1.0, 4.0])
def test_the_temperature_softens_both_sides(heat: float) -> None:
    p, q = (F.softmax(_seen(chain)[2] / heat, -1) for chain in (TEACHER, STUDENT))
    expected = heat**2 * (p * (p / q).log()).sum(-1).mean()
    assert _loss(Lesson(heat)) == pytest.approx(float(expected), rel=1e-4)


def test_standardised_logits_lose_their_scale_and_shift() -> None:
    lesson = Lesson(2.0, standardised=True)
    before = _loss(lesson)
    stretched = tiny_classifier(seed=2)
    stretched.head.weight.data.mul_(3.0)
    stretched.head.weight.data[:, -1] += 0.7
    state, hidden, _ = _seen(TEACHER)
    goal = ClassObjective(TEACHER.head, lesson).goal(hidden, state)
    mine, own, _ = _seen(stretched)
    after = float(ClassObjective(stretched.head, lesson).loss(own, goal, mine))
    assert after == pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize("name", ["relation", "semantic"])
def test_a_metric_of_diswot_is_a_term_of_its_own(name: str) -> None:
    weighed = Lesson(**{name: 2.0})
    assert _loss(weighed) > _loss(Lesson())
    assert _loss(weighed, TEACHER) == pytest.approx(0, abs=1e-5)


def test_scores_are_the_plain_kl_whatever_the_lesson() -> None:
    plain = objective_of(TEACHER)
    taught = lesson_for(TEACHER, Lesson(4.0, standardised=True))
    hidden, changed = _seen(TEACHER)[1], _seen(STUDENT)[1]
    torch.testing.assert_close(
        taught.divergence(hidden)(changed), plain.divergence(hidden)(changed)
    )


def test_gradients_have_the_second_order_of_the_kl() -> None:
    """Half the mean square of (g . delta) is the KL of a small change, as for next tokens."""
    hidden = _seen(TEACHER)[1]
    objective = objective_of(TEACHER)
    delta = 0.02 * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
    delta[..., -1] = 0  # the feature that is always one
    draws = objective.gradients(hidden, None, 4000, torch.Generator().manual_seed(1))
    expected = objective.divergence(hidden)(hidden + delta)
    found = 0.5 * (draws * delta).sum((2, 3)).pow(2).mean(0)
    torch.testing.assert_close(found, expected, rtol=0.15, atol=1e-7)
