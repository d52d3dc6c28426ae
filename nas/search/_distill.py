"""Distilling a student of a search from its trained teacher, on pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from nas._numerics import autocast
from nas.data import ImageSet
from nas.errors import ConfigError
from nas.networks import ImageNetwork, seeded
from nas.objectives import relation_loss, semantic_loss
from nas.progress import Progress

OBJECTIVES = ("semantic", "relation")
_HELD_OUT = 0.1
_CHUNK = 250


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum, its rate falling as a cosine; DisWOT's weights of the two losses.

    `objectives` adds DisWOT's metrics, each with weight 1. Raises ConfigError.
    """

    steps: int
    objectives: tuple[str, ...] = ()
    batch: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    labels_weight: float = 0.1
    teacher_weight: float = 0.9
    temperature: float = 4.0

    def __post_init__(self) -> None:
        unknown = set(self.objectives) - set(OBJECTIVES)
        if unknown:
            raise ConfigError(f"no objective {min(unknown)!r}; known: {', '.join(OBJECTIVES)}")


class Distilled(BaseModel):
    """A student after distillation, on pictures that it was not trained on.

    `agreement`: share of them on which student and teacher choose the same class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    steps: int
    test_pictures: int
    agreement: float
    student_accuracy: float
    teacher_accuracy: float
    seconds: float

    def line(self) -> str:
        return (
            f"{self.architecture} after {self.steps:,} steps, on {self.test_pictures:,} held-out "
            f"pictures: agrees with the teacher on {100 * self.agreement:.1f} %, accuracy "
            f"{100 * self.student_accuracy:.1f} % (teacher {100 * self.teacher_accuracy:.1f} %)"
        )


def distill(
    student: ImageNetwork,
    teacher: ImageNetwork,
    images: ImageSet,
    recipe: Recipe,
    *,
    name: str,
    seed: int,
    progress: Progress,
) -> Distilled:
    """Train `student` in place; a tenth of the pictures of each class is held out.

    Raises ConfigError where there are no labels or too few pictures for a batch.
    """
    if images.labels is None:
        raise ConfigError("--distill needs labels in --data")
    started = time.perf_counter()
    train, test = images.split(_HELD_OUT, seed)
    if len(train) < recipe.batch or not len(test):
        raise ConfigError(f"--distill: {len(images)} pictures are too few; give {recipe.batch * 2}")
    teacher.eval()
    with seeded(seed), progress.task("distilling", recipe.steps) as advance:
        optimizer = torch.optim.SGD(
            student.parameters(),
            lr=recipe.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
        student.train()
        for step in range(recipe.steps):
            pictures, labels = train.draw(recipe.batch, seed + step)
            assert labels is not None
            loss = _loss(student, teacher, _augmented(pictures), labels, recipe)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(1)
    return _judged(student, teacher, test, name, recipe.steps, started)


def _loss(
    student: ImageNetwork, teacher: ImageNetwork, pictures: Tensor, labels: Tensor, recipe: Recipe
) -> Tensor:
    # Channels innermost, and the processor's fast format: gradients of few channels take a tenth
    # of the time in it.
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    with autocast(pictures.device.type):
        with torch.no_grad():
            shown = teacher.features(pictures)
        features = student.features(pictures)
    shown, features = shown.float(), features.float()
    target = teacher.head(shown.mean(dim=(2, 3))).detach()
    logits = student.head(features.mean(dim=(2, 3)))
    heat = recipe.temperature
    # The square keeps the gradient's scale as the temperature rises (Hinton et al. 2015).
    soft = heat**2 * F.kl_div(
        F.log_softmax(logits / heat, dim=1),
        F.log_softmax(target / heat, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    loss = recipe.labels_weight * F.cross_entropy(logits, labels) + recipe.teacher_weight * soft
    if "relation" in recipe.objectives:
        loss = loss + relation_loss(features, shown)
    if "semantic" in recipe.objectives:
        heads = student.head.weight, teacher.head.weight.detach()
        loss = loss + semantic_loss(features, shown, *heads, labels)
    return loss


def _augmented(pictures: Tensor) -> Tensor:
    """Each moved by up to an eighth of its side, half of them mirrored."""
    count, _, side, _ = pictures.shape
    margin = side // 8
    padded = F.pad(pictures, (margin,) * 4)
    offsets = torch.randint(2 * margin + 1, (count, 2)).tolist()
    mirrored = (torch.rand(count) < 0.5).tolist()
    return torch.stack(
        [
            _cut(picture, top, left, side, mirror)
            for picture, (top, left), mirror in zip(padded, offsets, mirrored, strict=True)
        ]
    )


def _cut(picture: Tensor, top: int, left: int, side: int, mirror: bool) -> Tensor:
    cut = picture[:, top : top + side, left : left + side]
    return cut.flip(2) if mirror else cut


def _judged(
    student: ImageNetwork,
    teacher: ImageNetwork,
    test: ImageSet,
    name: str,
    steps: int,
    started: float,
) -> Distilled:
    pictures, labels = test.draw(len(test), 0)
    assert labels is not None
    chosen, wanted = (_classes(network, pictures.split(_CHUNK)) for network in (student, teacher))
    return Distilled(
        architecture=name,
        steps=steps,
        test_pictures=len(test),
        agreement=_share(chosen == wanted),
        student_accuracy=_share(chosen == labels),
        teacher_accuracy=_share(wanted == labels),
        seconds=time.perf_counter() - started,
    )


@torch.no_grad()
def _classes(network: ImageNetwork, chunks: Sequence[Tensor]) -> Tensor:
    network.eval()
    return torch.cat([network(chunk).argmax(dim=1) for chunk in chunks])


def _share(mask: Tensor) -> float:
    return float(mask.float().mean())
