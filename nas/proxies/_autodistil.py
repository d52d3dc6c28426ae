"""AutoDistil: relations between the queries, keys and values of student and teacher."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss

from nas.errors import ConfigError
from nas.proxies._base import Proxy, Trial, attention_of


class AutoDistil(Proxy):
    """Minus the loss between Q-Q, K-K and V-V relations of the last layers, summed over the three.

    Queries [N, T, width] are cut into `relation_heads` parts whatever the number of heads; where
    that does not divide the width, the first parts are wider by one. A part X of width d gives the
    relation X X' / sqrt(d), [N, T, T]. The loss is KL(teacher || student) over the softmax of its
    rows, averaged over samples, parts and rows, as MiniLMv2 writes it (Wang et al., 2021).
    """

    name: ClassVar[str] = "autodistil"
    needs = frozenset({"data", "teacher"})
    over = "tokens"
    cost = "forward"
    source: ClassVar[str] = (
        "Xu et al., AutoDistil, NeurIPS 2022 (arXiv 2201.12507), loss of MiniLMv2"
    )

    def __init__(self, relation_heads: int = 12) -> None:
        if relation_heads < 1:
            raise ConfigError(f"relation_heads is {relation_heads}; it must be at least 1")
        self.relation_heads = relation_heads

    def score(self, trial: Trial) -> float:
        network = trial.network().eval()
        with torch.no_grad():
            student = attention_of(network, trial.batch.inputs)
            pairs = zip(trial.followed().attention, student, strict=True)
            return -sum(self._loss(theirs, ours) for theirs, ours in pairs)

    def _loss(self, teacher: Tensor, student: Tensor) -> float:
        heads = self.relation_heads
        both = zip(relations(teacher, heads), relations(student, heads), strict=True)
        return float(torch.stack([self.distance(t, s) for t, s in both]).mean())

    @staticmethod
    def distance(teacher: Tensor, student: Tensor) -> Tensor:
        """Of two relations [N, T, T]."""
        found = kl_div(
            log_softmax(student, dim=-1),
            log_softmax(teacher, dim=-1),
            reduction="none",
            log_target=True,
        )
        return found.sum(dim=-1).mean()


class AutoDistilMse(AutoDistil):
    """As `autodistil`, with the squared error of the scaled products, as in AutoDistil's code."""

    name = "autodistil_mse"
    source = "Xu et al., AutoDistil, NeurIPS 2022 (arXiv 2201.12507)"

    @staticmethod
    def distance(teacher: Tensor, student: Tensor) -> Tensor:
        """Of two relations [N, T, T]."""
        return mse_loss(student, teacher)


def relations(vectors: Tensor, heads: int) -> list[Tensor]:
    """Scaled products [N, T, T] of each of `heads` parts of [N, T, width]."""
    if vectors.shape[-1] < heads:
        raise ConfigError(
            f"{heads} relation heads do not fit in a width of {vectors.shape[-1]}; ask for fewer"
        )
    parts = vectors.tensor_split(heads, dim=-1)
    return [part @ part.transpose(1, 2) / math.sqrt(part.shape[-1]) for part in parts]
