"""Fewer intermediate channels: kept by what they contribute, then a refitted output layer."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks._base import BlockKind
from nas.blocks._channels import elimination_order
from nas.blocks._data import Built, SlotData
from nas.blocks._module import Block, unfilled
from nas.blocks._ridge import Moments
from nas.ir import FeedForward, GatedFeedForward, SlotKind, TransformerShape, as_transformer

WidthSpec = TypeVar("WidthSpec", GatedFeedForward, FeedForward)


class NarrowerKind(BlockKind[TransformerShape, WidthSpec], Generic[WidthSpec]):
    """A feed-forward of `matrices` matrices, each hidden x width: all but `down_proj` widen."""

    matrices: int
    widening: tuple[str, ...]
    """Names of the layers whose rows are the channels."""

    @abstractmethod
    def module(self, shape: TransformerShape, slot_kind: SlotKind, spec: WidthSpec) -> Block:
        """A fresh module."""

    def parameters(self, shape: TransformerShape, slot_kind: SlotKind, spec: WidthSpec) -> int:
        biases = ((self.matrices - 1) * spec.width + shape.hidden_size) * shape.ffn_bias
        return self.matrices * shape.hidden_size * spec.width + biases

    def flops(
        self,
        shape: TransformerShape,
        slot_kind: SlotKind,
        spec: WidthSpec,
        tokens: int,
        context_tokens: int,
    ) -> float:
        rows = tokens * shape.pixels(slot_kind)
        return 2.0 * self.matrices * rows * shape.hidden_size * spec.width

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[WidthSpec, ...]) -> list[Built]:
        teacher = data.teacher
        moments = _intermediate_moments(data, teacher)
        widths = sorted({spec.width for spec in specs}, reverse=True)
        output = data.felt(teacher.output_layer.weight)
        kept = elimination_order(moments.gram, output, widths, data.ridge)
        built = []
        for spec in specs:
            channels = kept[spec.width]
            block = self._sliced(data, teacher, spec, channels)
            sliced, error = data.refit(block, moments.of(channels))
            built.append(Built(spec, block, error, sliced))
        return built

    def _sliced(self, data: SlotData, teacher: Block, spec: WidthSpec, channels: Tensor) -> Block:
        """The teacher's block with only `channels`."""
        shape = as_transformer(data.shape)
        block = unfilled(lambda: self.module(shape, data.slot_kind, spec), data.x.device)
        state = teacher.state_dict()
        for layer in self.widening:
            for name in (f"{layer}.weight", f"{layer}.bias"):
                if name in state:
                    state[name] = state[name][channels]
        state["down_proj.weight"] = state["down_proj.weight"][:, channels]
        block.load_state_dict(state)
        return block


def _intermediate_moments(data: SlotData, teacher: Block) -> Moments:
    """One pass gives the Gram matrix that every width needs."""
    layer = teacher.output_layer
    moments = Moments.zeros(layer.in_features, layer.out_features, data.x)
    for x, y, emphasis in data.fitted():
        with autocast(x.device.type):
            features = teacher.features(x, data.context)
        moments.add(features, y, emphasis)
    return moments
