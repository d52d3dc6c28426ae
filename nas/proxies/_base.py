"""What every proxy is: one number for a network that nobody has trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.errors import ConfigError
from nas.networks import ImageNetwork

Need = Literal["data", "labels", "teacher"]
Cost = Literal["count", "forward", "backward", "training"]
Kind = Literal["pictures", "tokens"]


@runtime_checkable
class AttentionVectors(Protocol):
    """An encoder that shows the queries, keys and values of its last layer."""

    def attention_vectors(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For tokens [N, T]: queries, keys and values [N, T, width], heads side by side."""


@dataclass(frozen=True)
class Batch:
    """Pictures [N, 3, H, W], normalised, or token ids [N, T], and labels [N] if there are any."""

    inputs: Tensor
    labels: Tensor | None = None

    def labelled(self) -> Tensor:
        """The labels; raises ConfigError where the batch has none."""
        if self.labels is None:
            raise ConfigError("this proxy needs labels; give the batch its labels")
        return self.labels


class TeacherView:
    """A teacher on one batch: each of its passes is run once for all candidates.

    A trained teacher is run in evaluation mode. One that nobody trained has no statistics to
    normalise by: with `trained=False` it takes those of the batch, on a copy of itself.
    """

    def __init__(self, network: nn.Module, batch: Batch, *, trained: bool = True) -> None:
        self.network = network
        self.batch = batch
        self.trained = trained

    @cached_property
    def features(self) -> Tensor:
        """[N, C, h, w], the last map before pooling."""
        copy = self._ready()
        with torch.no_grad():
            return as_images(copy).features(self.batch.inputs)

    @cached_property
    def logits(self) -> Tensor:
        """[N, classes]."""
        head = as_images(self.network).head
        with torch.no_grad():
            found: Tensor = head(self.features.mean(dim=(2, 3)))
        return found

    @cached_property
    def head_gradient(self) -> Tensor:
        """Of the mean cross-entropy by the weights of the head, [classes, C]."""
        return head_gradient(self.features, as_images(self.network).head, self.batch.labelled())

    @cached_property
    def attention(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the last layer."""
        copy = self._ready()
        with torch.no_grad():
            return attention_of(copy, self.batch.inputs)

    def prepare(self, *, labels: bool) -> None:
        """Run the passes that proxies read, so that no candidate pays for them."""
        if isinstance(self.network, AttentionVectors):
            _ = self.attention
        else:
            _ = self.head_gradient if labels else self.features

    def _ready(self) -> nn.Module:
        """A copy in the right mode, so that neither mode nor running statistics change."""
        return deepcopy(self.network).train(not self.trained)


@dataclass(frozen=True)
class Trial:
    """One network under test: how to build it afresh, what it is shown, whom it should follow.

    `build(seed)` gives the same initialisation for the same seed, whatever ran before.
    """

    build: Callable[[int], nn.Module]
    batch: Batch
    teacher: TeacherView | None = None
    seed: int = 0

    def network(self) -> nn.Module:
        """A fresh initialisation in training mode: a proxy may change it as it likes."""
        with torch.random.fork_rng(devices=[]):
            return self.build(self.seed).train()

    def image_network(self) -> ImageNetwork:
        """`network()`; raises ConfigError where it is none over pictures."""
        return as_images(self.network())

    def followed(self) -> TeacherView:
        """The teacher; raises ConfigError where there is none."""
        if self.teacher is None:
            raise ConfigError("this proxy compares with a teacher; give one")
        return self.teacher

    def generator(self) -> torch.Generator:
        """Random numbers of this trial alone."""
        return torch.Generator().manual_seed(self.seed)


class Proxy(ABC):
    """One number a network, higher is better; averaging over inits and batches is the caller's.

    `needs` beside the network itself; `over` is what the network must read, None for either; `cost`
    is the dearest pass it runs; `source` the paper. A score changes nothing outside the network
    that it builds: no random state, no gradients, no statistics of the teacher.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    over: ClassVar[Kind | None] = None
    cost: ClassVar[Cost]
    source: ClassVar[str]

    @abstractmethod
    def score(self, trial: Trial) -> float:
        """The score of one initialisation on one batch; finite, or `math.nan` if undefined.

        Raises:
            ConfigError: the trial lacks what the proxy needs, or its network is over something
                else.
        """


def as_images(network: nn.Module) -> ImageNetwork:
    """`network` itself; raises ConfigError where it is no network over pictures."""
    if not isinstance(network, ImageNetwork):
        raise ConfigError(f"this proxy is for networks over pictures, not {type(network).__name__}")
    return network


def attention_of(network: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of the last layer; raises ConfigError where there are none."""
    if not isinstance(network, AttentionVectors):
        raise ConfigError(
            "this proxy compares queries, keys and values; "
            f"{type(network).__name__} has no attention_vectors()"
        )
    return network.attention_vectors(tokens)


def head_gradient(features: Tensor, head: nn.Linear, labels: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy by the head's weights, [classes, C]."""
    weight = head.weight.detach().clone().requires_grad_()
    bias = None if head.bias is None else head.bias.detach()
    with torch.enable_grad():
        logits = functional.linear(features.detach().mean(dim=(2, 3)), weight, bias)
        loss = functional.cross_entropy(logits, labels)
        return torch.autograd.grad(loss, weight)[0]


def weights(network: nn.Module) -> list[Tensor]:
    """Weights of convolutions and linear maps, in the network's order; no biases, no norms."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    found = (module.weight for module in network.modules() if isinstance(module, kinds))
    return [weight for weight in found if isinstance(weight, nn.Parameter)]


def draw_normal(network: nn.Module, generator: torch.Generator) -> None:
    """Weights of convolutions and linear maps from N(0, 1), their biases 0."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                module.weight.normal_(generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
