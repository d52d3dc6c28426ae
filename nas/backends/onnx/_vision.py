"""Transformers over pictures as ONNX: whole, and their ends for measurement.

Slots are the templates that encoders have, without a mask; what stands before and behind them is
written node by node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nas.backends.onnx._compose import Composer
from nas.backends.onnx._convolutional import INPUT, OUTPUT
from nas.backends.onnx._library import block_template
from nas.backends.onnx._quantised import weights_of
from nas.chain import VisionChain
from nas.ir import Architecture, Skip, VisionShape

if TYPE_CHECKING:
    import onnx_ir as ir

EMBEDDING = "embedding"


def compose_vision(chain: VisionChain, dtype: str, opset: int) -> ir.Model:
    """`pixel_values` [batch, 3, side, side] -> `logits` [batch, classes], or `embedding`
    [batch, width]; weights are read when it is written."""
    composer, shape = Composer("vision", dtype, opset), chain.shape
    graph = _Graph(composer)
    state = graph.embed(graph.pixels(shape), chain)
    for k, slot in enumerate(chain.slot_ids):
        spec = shape.resolve(slot, chain.architecture.spec(slot))
        if isinstance(spec, Skip):
            continue
        template = block_template(shape, slot.kind, spec, dtype, opset)
        weights = weights_of(chain.slot(k))
        (state,) = composer.instantiate(template, f"{slot.id}.", [state], weights)
    graph.read(state, chain)
    return composer.model()


def patches_model(
    shape: VisionShape, *, dtype: str, seed: int, opset: int, device: str
) -> ir.Model:
    """What stands before the slots: `pixel_values` -> `state` [batch, places, hidden]."""
    composer = Composer("prologue", dtype, opset)
    graph = _Graph(composer)
    state = graph.embed(graph.pixels(shape), _ends(shape, seed, device))
    composer.add_output(state, "state", ("batch", shape.places, shape.hidden_size))
    return composer.model()


def reading_model(
    shape: VisionShape, *, dtype: str, seed: int, opset: int, device: str
) -> ir.Model:
    """What stands behind the slots: `state` -> `logits` or `embedding`."""
    composer = Composer("epilogue", dtype, opset)
    state = composer.add_input("state", ("batch", shape.places, shape.hidden_size))
    _Graph(composer).read(state, _ends(shape, seed, device))
    return composer.model()


def _ends(shape: VisionShape, seed: int, device: str) -> VisionChain:
    """A network of random weights without its slots."""
    small = shape.model_copy(update={"layers": 1})
    skips = Architecture(choices={slot.id: Skip() for slot in small.slots()})
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        return VisionChain(small, skips)


class _Graph:
    """Writes the nodes at both ends. They are named as a prologue or an epilogue, so that profiles
    find them."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    def pixels(self, shape: VisionShape) -> ir.Value:
        """The input."""
        return self._composer.add_input(INPUT, ("batch", 3, shape.image_side, shape.image_side))

    def embed(self, pixels: ir.Value, chain: VisionChain) -> ir.Value:
        """Patches by one convolution, behind room for the prefix, and what is added to each place:
        its position, and for the prefix the token itself."""
        shape, projection = chain.shape, chain.embed.projection
        assert projection.bias is not None
        side = [shape.patch_side] * 2
        weights = [
            self._weight("prologue.patches.weight", projection.weight),
            self._weight("prologue.patches.bias", projection.bias),
        ]
        maps = self._op(
            "Conv", "prologue.patches", [pixels, *weights], kernel_shape=side, strides=side
        )
        rows = self._numbers(0, shape.hidden_size, shape.patches)
        flat = self._op("Reshape", "prologue.flat", [maps, rows])
        tokens = self._op("Transpose", "prologue.tokens", [flat], perm=[0, 2, 1])
        if shape.prefix_tokens:
            pads = self._numbers(0, shape.prefix_tokens, 0, 0, 0, 0)
            tokens = self._op("Pad", "prologue.prefix", [tokens, pads])
        places = self._weight("prologue.places", _places(chain))
        return self._op("Add", "prologue.state", [tokens, places])

    def read(self, state: ir.Value, chain: VisionChain) -> None:
        """Last state to the output."""
        shape = chain.shape
        if shape.pooling == "mean":
            ends = [self._numbers(n) for n in (shape.prefix_tokens, shape.places, 1)]
            tokens = self._op("Slice", "epilogue.patches", [state, *ends])
            if shape.pools_first:
                read = self._norm(self._mean(tokens), chain)
            else:
                read = self._mean(self._norm(tokens, chain))
        else:
            which = self._numbers(*range(2 if shape.pooling == "both" else 1))
            tokens = self._op("Gather", "epilogue.tokens", [state, which], axis=1)
            normed = self._norm(tokens, chain)
            read = self._op("Reshape", "epilogue.read", [normed, self._numbers(0, -1)])
        if chain.head is None:
            self._composer.add_output(read, EMBEDDING, ("batch", shape.read_width))
            return
        weight = self._weight("epilogue.head.weight", chain.head.weight[:, :-1])
        bias = self._weight("epilogue.head.bias", chain.head.weight[:, -1])
        logits = self._op("Gemm", "epilogue.head", [read, weight, bias], transB=1)
        self._composer.add_output(logits, OUTPUT, ("batch", shape.classes))

    def _norm(self, x: ir.Value, chain: VisionChain) -> ir.Value:
        weights = [
            self._weight("epilogue.norm.weight", chain.norm.weight),
            self._weight("epilogue.norm.bias", chain.norm.bias),
        ]
        epsilon = chain.norm.eps
        return self._op(
            "LayerNormalization", "epilogue.norm", [x, *weights], axis=-1, epsilon=epsilon
        )

    def _mean(self, tokens: ir.Value) -> ir.Value:
        return self._op("ReduceMean", "epilogue.mean", [tokens, self._numbers(1)], keepdims=0)

    def _weight(self, name: str, tensor: Tensor) -> ir.Value:
        return self._composer.add_weight(name, tensor)

    def _numbers(self, *values: int) -> ir.Value:
        return self._composer.add_numbers(values)

    def _op(self, kind: str, name: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        return self._composer.add_op(kind, name, inputs, attributes)


def _places(chain: VisionChain) -> Tensor:
    """What the embedding adds to patches behind zeros [1, places, hidden]."""
    positions = chain.embed.position_embeddings.detach()
    rows = [*chain.embed.prefix, positions.new_zeros(1, chain.shape.patches, positions.shape[2])]
    return torch.cat([row.detach() for row in rows], dim=1) + positions
