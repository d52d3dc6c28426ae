"""A classifier taught by its teacher's logits: softened or standardised, and DisWOT's metrics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.objectives._diswot import relation_loss, semantic_loss
from nas.objectives._language import LanguageObjective


@dataclass(frozen=True)
class Lesson:
    """How classes are taught.

    `temperature` T divides the logits, and the loss is taken T^2 times, which keeps the scale of
    the gradient (Hinton et al., arXiv 1503.02531). `standardised`: logits are brought to mean 0 and
    deviation 1 first, so that the student need not match the teacher's magnitudes (Sun et al.,
    arXiv 2403.01427). `relation`, `semantic`: weights of DisWOT's metrics of the last feature maps.
    """

    temperature: float = 1.0
    standardised: bool = False
    relation: float = 0.0
    semantic: float = 0.0


@dataclass(frozen=True)
class ClassGoal:
    """Of the teacher: logits [pictures, classes], and the last state [pictures, pixels, channels]
    with the classifier's weight, where DisWOT's metrics ask for them."""

    logits: Tensor
    state: Tensor | None
    weight: Tensor


class ClassObjective(LanguageObjective):
    """The KL of classes in scores; in `loss` the KL as the lesson says."""

    def __init__(self, head: nn.Linear, lesson: Lesson) -> None:
        super().__init__(head)
        self.lesson = lesson

    @torch.no_grad()
    def goal(self, hidden: Tensor, state: Tensor | None = None) -> ClassGoal:
        lesson = self.lesson
        kept = state if lesson.relation or lesson.semantic else None
        return ClassGoal(self._logits(hidden), kept, self._head.weight.float())

    def loss(self, hidden: Tensor, goal: object, state: Tensor | None = None) -> Tensor:
        assert isinstance(goal, ClassGoal)
        heat = self.lesson.temperature
        wanted, said = (self._softened(z) for z in (goal.logits, self._logits(hidden)))
        loss = heat**2 * F.kl_div(said, wanted, reduction="batchmean", log_target=True)
        if goal.state is None or state is None:
            return loss
        maps, shown = _maps(state), _maps(goal.state)
        if self.lesson.relation:
            loss = loss + self.lesson.relation * relation_loss(maps, shown)
        if self.lesson.semantic:
            own, theirs = self._head.weight.float()[:, :-1], goal.weight[:, :-1]
            labels = goal.logits.argmax(-1)
            loss = loss + self.lesson.semantic * semantic_loss(maps, shown, own, theirs, labels)
        return loss

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.float(), self._head.weight.float()).squeeze(1)

    def _softened(self, logits: Tensor) -> Tensor:
        if self.lesson.standardised:
            logits = logits - logits.mean(-1, keepdim=True)
            logits = logits / logits.std(-1, keepdim=True, correction=0).clamp(min=1e-6)
        return F.log_softmax(logits / self.lesson.temperature, dim=-1)


def _maps(state: Tensor) -> Tensor:
    """[pictures, pixels, channels] as maps [pictures, channels, pixels, 1]."""
    return state.float().transpose(1, 2).unsqueeze(-1)
