"""What a network is for: how far a student is from the teacher in it, and the gradients of that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

Divergence = Callable[[Tensor], Tensor]


class Objective(ABC):
    """Compares last states [sequences, tokens, hidden], as `Chain.exact_hidden` gives them.

    The measure is zero where both are equal and of second order about there: nats a token for a
    language model.
    """

    measure: ClassVar[str]
    """What the measure is called in messages: `KL` or `distance`."""

    @abstractmethod
    def divergence(self, reference: Tensor) -> Divergence:
        """A function from changed states to the measure of each sequence [sequences]."""

    @abstractmethod
    def goal(self, hidden: Tensor, state: Tensor | None = None) -> object:
        """What `loss` needs of the teacher's states, made once for all students. `state`: the last
        one, as the chain left it, of which some objectives see more than `hidden` shows."""

    @abstractmethod
    def loss(self, hidden: Tensor, goal: object, state: Tensor | None = None) -> Tensor:
        """The mean measure, differentiable in the states."""

    @abstractmethod
    def gradients(
        self, hidden: Tensor, goal: Tensor | None, draws: int, generator: torch.Generator
    ) -> Tensor:
        """Gradients with respect to the states [rows, sequences, tokens, hidden], in float32.

        The last `draws` rows g are random, with the mean of (g . delta)^2 the second order of the
        measure, in the sum over tokens. Where `goal`, the teacher's states, is given, a row stands
        before them: the gradient of the summed measure from the teacher to this network.
        """
