"""A classifier of pictures against its teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas.chain import PictureChain
from nas.evaluation._bootstrap import Retained, accuracy_retained

_BATCH = 128


@dataclass(frozen=True)
class ClassQuality:
    """`kl`: KL(teacher || student) of each picture in nats; `agreement`: share of pictures to which
    both give the same class."""

    kl: tuple[float, ...]
    agreement: float

    @property
    def kl_mean(self) -> float:
        return sum(self.kl) / len(self.kl)

    @property
    def kl_standard_error(self) -> float | None:
        """Standard error of `kl_mean` over pictures; None for a single picture."""
        if len(self.kl) < 2:
            return None
        spread = float(torch.tensor(self.kl, dtype=torch.float64).std())
        return float(spread / len(self.kl) ** 0.5)


def class_quality(
    teacher: PictureChain, students: Mapping[str, PictureChain], pictures: Tensor
) -> dict[str, ClassQuality]:
    """Quality of the teacher and of each student on pictures uint8 [n, 3, side, side]."""
    wanted = torch.cat(list(_logits(teacher, pictures))).log_softmax(-1)
    found = {}
    for name, chain in {"teacher": teacher, **students}.items():
        said = torch.cat(list(_logits(chain, pictures))).log_softmax(-1)
        kl = (wanted.exp() * (wanted - said)).sum(-1).clamp(min=0)
        same = (wanted.argmax(-1) == said.argmax(-1)).double().mean()
        found[name] = ClassQuality(tuple(kl.tolist()), float(same))
    return found


@dataclass(frozen=True)
class Accuracies:
    """Accuracy of each model on labelled pictures, and what the student keeps of the teacher's."""

    name: str
    pictures: int
    models: dict[str, float]
    retained: Retained | None


def class_accuracy(
    path: Path, models: Mapping[str, PictureChain], limit: int | None = None
) -> Accuracies:
    """Accuracy of `teacher` and `student` on a labelled .npz file; raises ConfigError."""
    from nas.data import as_bytes, labelled_images

    teacher = models["teacher"]
    images = labelled_images(path, teacher.shape)
    assert images.labels is not None
    pictures, labels = as_bytes(images.images[:limit]), torch.from_numpy(images.labels[:limit])
    right = {
        name: (torch.cat(list(_logits(chain, pictures))).argmax(-1) == labels)
        for name, chain in models.items()
    }
    return Accuracies(
        name=path.stem,
        pictures=len(labels),
        models={name: float(hits.double().mean()) for name, hits in right.items()},
        retained=accuracy_retained(right["teacher"].tolist(), right["student"].tolist()),
    )


@torch.no_grad()
def _logits(chain: PictureChain, pictures: Tensor) -> Iterator[Tensor]:
    for batch in pictures.split(_BATCH):
        yield chain(batch.to(chain.device)).double().cpu()
