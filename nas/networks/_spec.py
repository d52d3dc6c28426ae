"""A network before it is built: plain data with exact costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class NetworkSize:
    """Trainable numbers, and multiply-accumulates of one input in convolutions, linear maps and
    attention, which is what the papers of this field call FLOPs."""

    params: int = 0
    flops: int = 0

    def __add__(self, other: NetworkSize) -> NetworkSize:
        return NetworkSize(self.params + other.params, self.flops + other.flops)

    def __mul__(self, times: int) -> NetworkSize:
        return NetworkSize(self.params * times, self.flops * times)


class NetworkSpec(ABC):
    """What a network is made of."""

    @property
    @abstractmethod
    def key(self) -> str:
        """A readable name, unique within the family for equal settings."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Layers with weights on the longest path; of an encoder, its transformer layers."""

    @abstractmethod
    def size(self) -> NetworkSize:
        """Exact, without building anything."""

    @abstractmethod
    def build(self, seed: int) -> nn.Module:
        """Fresh weights: equal for equal seeds, and no other random state is changed."""


def convolution(inputs: int, outputs: int, kernel: int, side: int) -> NetworkSize:
    """A convolution without bias and the batch norm behind it; `side` is that of its output."""
    weights = inputs * outputs * kernel * kernel
    return NetworkSize(weights + 2 * outputs, weights * side * side)


def linear(inputs: int, outputs: int, times: int = 1) -> NetworkSize:
    """A linear map with bias, applied to `times` vectors."""
    return NetworkSize(inputs * outputs + outputs, inputs * outputs * times)
