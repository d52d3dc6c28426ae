"""What every proxy is: one number for a network that nobody has trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nas.networks import ImageNetwork

Need = Literal["data", "labels", "teacher"]
Cost = Literal["count", "forward", "backward"]


@dataclass(frozen=True)
class Batch:
    """Pictures [N, 3, H, W], normalised, and their labels [N] where there are any."""

    inputs: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class Trial:
    """One network under test: how to build it afresh, what it is shown, whom it should follow.

    `build(seed)` gives the same initialisation for the same seed, whatever ran before.
    """

    build: Callable[[int], ImageNetwork]
    batch: Batch
    teacher: TeacherView | None = None
    seed: int = 0

    def network(self) -> ImageNetwork:
        """A fresh initialisation: a proxy may change it as it likes."""
        return self.build(self.seed)


class TeacherView:
    """A teacher on one batch: each of its passes is run once for all candidates."""

    def __init__(self, network: ImageNetwork, batch: Batch) -> None:
        self.network = network
        self.batch = batch

    @cached_property
    def features(self) -> Tensor:
        """[N, C, h, w], in evaluation mode."""
        mode = self.network.training
        self.network.eval()
        with torch.no_grad():
            found = self.network.features(self.batch.inputs)
        self.network.train(mode)
        return found


class Proxy(ABC):
    """One number a network, higher is better; averaging over inits and batches is the caller's.

    `needs` beside the network itself; `cost` is the dearest pass it runs; `source` the paper.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    cost: ClassVar[Cost]
    source: ClassVar[str]

    @abstractmethod
    def score(self, trial: Trial) -> float:
        """The score of one initialisation on one batch; finite, or `math.nan` if undefined."""


def parameters(network: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
