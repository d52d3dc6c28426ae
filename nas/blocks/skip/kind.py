"""No operation: costs nothing and loses the whole branch."""

from __future__ import annotations

from nas.blocks._base import BlockKind
from nas.blocks._data import Built, SlotData
from nas.ir import ChainShape, Skip, SlotKind


class SkipKind(BlockKind[ChainShape, Skip]):
    """The slot is left out, norm included."""

    def module(self, shape: ChainShape, slot_kind: SlotKind, spec: Skip) -> None:
        return None

    def parameters(self, shape: ChainShape, slot_kind: SlotKind, spec: Skip) -> int:
        return 0

    def flops(
        self, shape: ChainShape, slot_kind: SlotKind, spec: Skip, tokens: int, context_tokens: int
    ) -> float:
        return 0.0

    def initialise(self, data: SlotData, specs: tuple[Skip, ...]) -> list[Built]:
        return [Built(spec, None, 1.0, 1.0) for spec in specs]
