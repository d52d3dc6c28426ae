"""What every block kind offers: a module, its size, its work, and its making from the teacher's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from nas.blocks._data import Built, SlotData
from nas.blocks._module import Block
from nas.ir import BlockSpec, ChainShape, SlotKind

ShapeT = TypeVar("ShapeT", bound=ChainShape)
SpecT = TypeVar("SpecT", bound=BlockSpec)


class BlockKind(ABC, Generic[ShapeT, SpecT]):
    """Strategy object of one kind of block, for slots of networks of shape `ShapeT`."""

    @abstractmethod
    def module(self, shape: ShapeT, slot_kind: SlotKind, spec: SpecT) -> Block | None:
        """A fresh module, or None for a block that does nothing."""

    @abstractmethod
    def parameters(self, shape: ShapeT, slot_kind: SlotKind, spec: SpecT) -> int:
        """Weights of the block, without the slot's norm."""

    @abstractmethod
    def flops(
        self, shape: ShapeT, slot_kind: SlotKind, spec: SpecT, tokens: int, context_tokens: int
    ) -> float:
        """Floating-point operations of `tokens` queries that see `context_tokens` keys each; a
        picture counts as one token."""

    def cached_values_per_token(self, shape: ShapeT, spec: SpecT) -> int:
        """Numbers kept in the cache for each token."""
        return 0

    @abstractmethod
    def initialise(self, data: SlotData, specs: tuple[SpecT, ...]) -> list[Built]:
        """Blocks for `specs` made from the teacher's block without gradient training."""
