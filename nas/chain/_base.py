"""What every chain does: embed -> slots -> last state.

Capture walks it once, streaming holds one slot at a time, scoring starts in the middle, assembly
swaps a branch.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from nas.blocks import Block, BlockContext, converted_parameters
from nas.chain._slot import SlotModule
from nas.errors import PassError
from nas.ir import Architecture, ChainShape
from nas.ir import Slot as SlotId


class Chain(nn.Module):
    """A network of `shape` with the blocks of `architecture`.

    Parameter names: `embed.weight` for the tokens, `slots.{k}.norm.*` and `slots.{k}.branch.*`;
    slot k is `shape.slots()[k]`. What else stands outside the slots is the family's own.
    """

    embed: nn.Embedding
    slots: nn.ModuleList
    samples_at_once = 8
    """How many pass a slot together where all of them are held."""

    def __init__(self, shape: ChainShape, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.architecture = architecture or Architecture()
        self.residual_dtype: torch.dtype | None = None

    @abstractmethod
    def embed_tokens(self, ids: Tensor) -> Tensor:
        """The residual stream before slot 0 [batch, tokens, hidden] of ids [batch, tokens]."""

    @abstractmethod
    def context(self, ids: Tensor) -> BlockContext:
        """What blocks need beside the state, for a fresh batch without padding."""

    @abstractmethod
    def final_hidden(self, state: Tensor) -> Tensor:
        """What the network is read from, of the state after the last slot; differentiable."""

    @abstractmethod
    def exact_hidden(self, state: Tensor) -> Tensor:
        """The same in float32, at full precision whatever the format of the weights."""

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.embed.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def outside(self) -> tuple[str, ...]:
        """Prefixes of the parameters that are trained only where embeddings are."""
        return ("embed.", "head.")

    def share_outside(self, other: Chain) -> None:
        """Take the weights of `outside` of another chain, without a copy."""
        theirs = dict(other.named_parameters(remove_duplicate=False))
        for name, _ in list(self.named_parameters(remove_duplicate=False)):
            if name.startswith(self.outside):
                owner, _, leaf = name.rpartition(".")
                setattr(self.get_submodule(owner), leaf, theirs[name])

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """The chain itself where its weights are in `dtype`, else a copy in `dtype`.

        In the copy the residual stream and the rotary frequencies stay float32: rounded frequencies
        would turn late positions by whole radians.
        """
        if self.dtype == dtype:
            return self
        # Each weight is copied once, in its new format: a copy in the old one may not fit.
        weights: dict[int, Any] = dict(converted_parameters(self, dtype))
        converted = copy.deepcopy(self, weights)
        converted.residual_dtype = torch.float32
        return converted

    def whole(self) -> Chain:
        """The chain with all of its weights in memory; see `StreamedChain`."""
        return self

    @property
    def slot_ids(self) -> tuple[SlotId, ...]:
        return self.shape.slots()

    def slot(self, k: int) -> SlotModule:
        """The module of slot k."""
        return cast(SlotModule, self.slots[k])

    def teacher_branch(self, k: int) -> Block:
        """The branch of slot k of a network that skips nothing; PassError otherwise."""
        branch = self.slot(k).branch
        if branch is None:
            raise PassError(f"{self.slot_ids[k].id} is skipped; a teacher has every block")
        return branch

    def run(
        self,
        state: Tensor,
        context: BlockContext,
        start: int = 0,
        stop: int | None = None,
        tap: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Slots `start` to `stop` (exclusive); `tap(k, state)` sees the state after each slot k."""
        for k in range(start, len(self.slots) if stop is None else stop):
            state = self.slot(k)(state, context)
            if tap is not None:
                tap(k, state)
        return state

    def _in_residual_dtype(self, state: Tensor) -> Tensor:
        return state if self.residual_dtype is None else state.to(self.residual_dtype)
