"""A residual network as a list of convolutions, without a word of how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from nas.blocks import (
    BasicConvolutionBlock,
    Block,
    BottleneckConvolutionBlock,
    LinearMapBlock,
    LowRankConvolutionBlock,
    SeparableConvolutionBlock,
)
from nas.chain import ConvChain, ConvSlot, Opening
from nas.errors import PassError


@dataclass(frozen=True)
class ConvLayer:
    """A convolution that keeps the side at stride 1, and whether a relu follows inside the branch;
    `weight` [outputs, inputs / groups, k, k]."""

    name: str
    weight: Tensor
    bias: Tensor | None
    relu: bool = False
    stride: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Padded:
    """A shortcut of every `stride`-th pixel: `inputs` channels, zeros `before` and `after` them."""

    inputs: int
    stride: int
    before: int
    after: int


@dataclass(frozen=True)
class Residual:
    """`relu(shortcut(x) + branch(x))`; `shortcut` None: x itself. `slot`: the slot that it fills;
    None for a block that opens a stage."""

    name: str
    branch: tuple[ConvLayer, ...]
    shortcut: ConvLayer | Padded | None = None
    slot: str | None = None


def plain_stem(stem: nn.Conv2d) -> ConvLayer:
    """The convolution of the stem, before its relu and, where it is not 3 wide, its pooling."""
    return _conv("stem", stem, relu=False)


def plain_blocks(chain: ConvChain) -> Iterator[Residual]:
    """All blocks in their order; skipped slots have none."""
    for i, opening in enumerate(chain.openings):
        assert isinstance(opening, Opening)
        yield opening_block(opening, f"openings.{i}")
    for k, slot in enumerate(chain.slot_ids):
        module = chain.slot(k)
        assert isinstance(module, ConvSlot)
        if module.branch is not None:
            yield slot_block(module.branch, slot.id)
        for i, opening in enumerate(module.openings):
            assert isinstance(opening, Opening)
            yield opening_block(opening, f"openings.after-{slot.layer}.{i}")


def slot_block(block: Block, name: str) -> Residual:
    """The block of a slot; raises PassError for one that is not of a network over pictures."""
    return Residual(name, tuple(_branch(block, f"{name}.")), slot=name)


def opening_block(opening: Opening, name: str) -> Residual:
    last = len(opening.convs) - 1
    convs = []
    for i, conv in enumerate(opening.convs):
        assert isinstance(conv, nn.Conv2d)
        convs.append(_conv(f"{name}.conv{i + 1}", conv, relu=i < last))
    if opening.shortcut is not None:
        projection = _conv(f"{name}.shortcut", opening.shortcut, relu=False)
        return Residual(name, tuple(convs), projection)
    before, inputs = opening.missing // 2, opening.convs[0].in_channels
    assert isinstance(inputs, int)
    padded = Padded(inputs, opening.stride, before, opening.missing - before)
    return Residual(name, tuple(convs), padded)


def _branch(block: Block, at: str) -> Iterator[ConvLayer]:
    match block:
        case BasicConvolutionBlock():
            yield _conv(f"{at}conv1", block.conv1, relu=True)
            yield _over_patches(f"{at}conv2", block.conv2)
        case BottleneckConvolutionBlock():
            yield _pointwise(f"{at}conv1", block.conv1, relu=True)
            yield _conv(f"{at}conv2", block.conv2, relu=True)
            yield _pointwise(f"{at}conv3", block.conv3)
        case SeparableConvolutionBlock():
            yield _conv(f"{at}depthwise", block.depthwise, relu=True)
            yield _pointwise(f"{at}pointwise", block.pointwise)
        case LowRankConvolutionBlock(conv1=None):
            yield _over_patches(f"{at}conv2", block.conv2)
        case LowRankConvolutionBlock(conv1=nn.Conv2d() as first):
            yield _conv(f"{at}conv1", first, relu=False)
            yield _pointwise(f"{at}conv2", block.conv2)
        case LinearMapBlock():
            yield _pointwise(f"{at}proj", block.proj)
        case _:
            raise PassError(f"{at[:-1]}: a {type(block).__name__} is no block over pictures")


def _conv(name: str, layer: nn.Conv2d, relu: bool) -> ConvLayer:
    return ConvLayer(name, layer.weight, layer.bias, relu, layer.stride[0], layer.groups)


def _pointwise(name: str, layer: nn.Linear, relu: bool = False) -> ConvLayer:
    return ConvLayer(name, layer.weight[:, :, None, None], layer.bias, relu)


def _over_patches(name: str, layer: nn.Linear) -> ConvLayer:
    return ConvLayer(name, layer.weight.unflatten(1, (-1, 3, 3)), layer.bias)
