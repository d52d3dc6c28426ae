"""A slot as a module: a branch, and the norm before it or after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.blocks import Block, BlockContext, CachedBlock, KeyValue, build_block
from nas.blocks._norm import LayerNorm, RMSNorm
from nas.ir import Architecture, SlotKind, TransformerShape
from nas.ir.blocks import BlockSpec


class SlotModule(nn.Module):
    """`state + branch(norm(state))`; a skipped slot has neither branch nor norm."""

    def __init__(self, norm: RMSNorm | LayerNorm | None, branch: Block | None) -> None:
        super().__init__()
        self.norm: RMSNorm | LayerNorm | None = norm if branch is not None else None
        self.branch = branch

    def forward(self, state: Tensor, context: BlockContext) -> Tensor:
        if self.branch is None:
            return self.settle(state)
        update: Tensor = self.branch(self.normed(state), context)
        return self.settle(state + update.to(state.dtype))

    def normed(self, state: Tensor) -> Tensor:
        """Input of the branch. Under autocast it is cast once here, not once in each projection."""
        assert self.norm is not None
        x: Tensor = self.norm(state)
        return cast(x)

    def settle(self, state: Tensor) -> Tensor:
        """What the next slot sees of the residual stream with this slot's update in it."""
        return state

    def settle_rows(self, state: Tensor, chunk: int) -> Tensor:
        """`settle`, `chunk` sequences at a time; in place where the size of the state stays."""
        found: list[Tensor] = []
        for rows in state.split(chunk):
            settled = self.settle(rows)
            if settled.shape == rows.shape:
                rows.copy_(settled)
            else:
                found.append(settled)
        return torch.cat(found) if found else state

    def emphasis(self, state: Tensor) -> Tensor | None:
        """How much the squared error of a token in `state`, which holds this slot's update, counts
        for what comes next [..., 1]; None: all alike."""
        return None

    @property
    def gain(self) -> Tensor | None:
        """What scales the channels of the update before the next slot sees them; None: nothing."""
        return None

    def forward_cached(
        self, state: Tensor, context: BlockContext, past: KeyValue
    ) -> tuple[Tensor, KeyValue]:
        """One step of a slot whose branch caches."""
        update, present = self.cached_branch.forward_cached(self.normed(state), context, past)
        return self.settle(state + update.to(state.dtype)), present

    @property
    def caches(self) -> bool:
        return isinstance(self.branch, CachedBlock)

    @property
    def cached_branch(self) -> CachedBlock:
        """The branch of a slot that caches."""
        assert isinstance(self.branch, CachedBlock)
        return self.branch


class PostNormSlot(SlotModule):
    """`norm(state + branch(state))`; a skipped slot is its norm."""

    def __init__(self, norm: RMSNorm | LayerNorm, branch: Block | None) -> None:
        super().__init__(norm, branch)
        self.norm = norm

    def normed(self, state: Tensor) -> Tensor:
        assert self.norm is not None
        return cast(state) if _autocasts(state) else state.to(self.norm.weight.dtype)

    def settle(self, state: Tensor) -> Tensor:
        norm = self.norm
        assert isinstance(norm, LayerNorm)
        # In the stream's own format: it is kept wider than the weights.
        weight, bias = norm.weight.to(state.dtype), norm.bias.to(state.dtype)
        return nn.functional.layer_norm(state, norm.normalized_shape, weight, bias, norm.eps)

    def emphasis(self, state: Tensor) -> Tensor:
        return 1 / state.float().var(-1, keepdim=True, correction=0).clamp(min=1e-12)

    @property
    def gain(self) -> Tensor:
        assert self.norm is not None
        return self.norm.weight.detach()


def make_slot(shape: TransformerShape, kind: SlotKind, spec: BlockSpec) -> SlotModule:
    """A fresh slot with the block of a resolved `spec`."""
    branch = build_block(shape, kind, spec)
    norm = (LayerNorm if shape.centred else RMSNorm)(shape.hidden_size, shape.norm_eps)
    return SlotModule(norm, branch) if shape.pre_norm else PostNormSlot(norm, branch)


def make_slots(shape: TransformerShape, architecture: Architecture) -> nn.ModuleList:
    """Fresh slots of a whole network."""
    return nn.ModuleList(
        make_slot(shape, slot.kind, shape.resolve(slot, spec))
        for slot, spec in architecture.items(shape)
    )


def _autocasts(state: Tensor) -> bool:
    return torch.is_autocast_enabled(state.device.type)


def cast(x: Tensor) -> Tensor:
    """`x` in the format that autocast asks for."""
    if _autocasts(x):
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x
