"""A residual network over pictures as a chain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.blocks import Block, BlockContext, build_block
from nas.blocks._pictures import as_pictures, as_pixels
from nas.chain._base import Chain
from nas.chain._pictures import normalised
from nas.chain._slot import SlotModule, cast
from nas.ir import Architecture, ConvShape, Stage


class ConvChain(Chain):
    """A network of `shape` with the blocks of `architecture`.

    Outside the slots: `stem.*`, and `head.weight` [classes, channels + 1], whose last column is the
    bias. Blocks that open a stage stand behind the slot before it, `slots.{k}.openings.{i}.*`, or
    behind the stem, `openings.{i}.*`.
    """

    shape: ConvShape
    samples_at_once = 64

    def __init__(self, shape: ConvShape, architecture: Architecture | None = None) -> None:
        super().__init__(shape, architecture)
        half = (shape.stem_kernel - 1) // 2
        stride = 1 if shape.stem_kernel == 3 else 2
        self.stem = nn.Conv2d(3, shape.stem_channels, shape.stem_kernel, stride, half)
        behind = openings_of(shape)
        self.openings = nn.ModuleList(behind[0])
        self.slots = nn.ModuleList(
            ConvSlot(build_block(shape, slot.kind, shape.resolve(slot, spec)), behind[k + 1])
            for k, (slot, spec) in enumerate(self.architecture.items(shape))
        )
        self.head = nn.Linear(shape.stages[-1].channels + 1, shape.classes, bias=False)

    @property
    def outside(self) -> tuple[str, ...]:
        """Nothing: the stem and the classifier are small, and are trained with the blocks."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures, as `embed_tokens` takes them, to logits [pictures, classes]."""
        state = self.run(self.embed_tokens(pictures), self.context(pictures))
        logits: Tensor = self.head(self.final_hidden(state))
        return logits.squeeze(1)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """The state before slot 0 [pictures, pixels, channels] of pictures [pictures, 3, h, w]: of
        bytes, or of numbers that are normalised already."""
        x = normalised(ids, self.shape) if ids.dtype == torch.uint8 else ids
        x = F.relu(self.stem(x.to(self.dtype).contiguous(memory_format=torch.channels_last)))
        if self.shape.stem_kernel != 3:
            x = F.max_pool2d(x, 3, 2, 1)
        state = as_pixels(x)
        for opening in self.openings:
            state = opening(state)
        return self._in_residual_dtype(state)

    def context(self, ids: Tensor) -> BlockContext:
        return BlockContext(causal=False)

    def final_hidden(self, state: Tensor) -> Tensor:
        """Means over the pixels, and a one for the bias [pictures, 1, channels + 1]."""
        return self.exact_hidden(state).to(self.dtype)

    def exact_hidden(self, state: Tensor) -> Tensor:
        mean = state.float().mean(1, keepdim=True)
        return torch.cat((mean, torch.ones_like(mean[..., :1])), dim=-1)


class ConvSlot(SlotModule):
    """`relu(state + branch(state))`, then the blocks that open the next stage, where it ends one.

    A skipped slot passes the state on: what comes out of a relu is not negative.
    """

    def __init__(self, branch: Block | None, openings: Sequence[nn.Module] = ()) -> None:
        super().__init__(None, branch)
        self.openings = nn.ModuleList(openings)

    def normed(self, state: Tensor) -> Tensor:
        if self.branch is None or torch.is_autocast_enabled(state.device.type):
            return cast(state)
        return state.to(next(self.branch.parameters()).dtype)

    def settle(self, state: Tensor) -> Tensor:
        state = F.relu(state)
        for opening in self.openings:
            state = opening(state)
        return state


class Opening(nn.Module):
    """A block that changes the size of the state: `relu(shortcut(state) + branch(state))`."""

    def __init__(self, shape: ConvShape, inputs: int, side: int, stage: Stage) -> None:
        super().__init__()
        self.side, self.stride = side, -(-side // stage.side)
        self.missing = stage.channels - inputs
        width, outputs = stage.width, stage.channels
        layers = {
            "basic": [(inputs, width, 3, self.stride), (width, outputs, 3, 1)],
            "bottleneck": [
                (inputs, width, 1, 1),
                (width, width, 3, self.stride),
                (width, outputs, 1, 1),
            ],
        }[shape.block]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, kernel, stride, kernel // 2) for a, b, kernel, stride in layers
        )
        projects = shape.shortcut == "projection"
        self.shortcut = nn.Conv2d(inputs, outputs, 1, self.stride) if projects else None

    def forward(self, state: Tensor) -> Tensor:
        """[pictures, side * side, inputs] to the stage's [pictures, pixels, channels]."""
        weight = self.convs[0].weight
        assert isinstance(weight, Tensor)
        pictures = as_pictures(state.to(weight.dtype), self.side)
        branch = pictures
        for i, conv in enumerate(self.convs):
            branch = conv(branch if i == 0 else F.relu(branch))
        return as_pixels(F.relu(branch + self._passed(pictures))).to(state.dtype)

    def _passed(self, pictures: Tensor) -> Tensor:
        if self.shortcut is not None:
            projected: Tensor = self.shortcut(pictures)
            return projected
        some = pictures[:, :, :: self.stride, :: self.stride]
        before = self.missing // 2
        return F.pad(some, (0, 0, 0, 0, before, self.missing - before))


def openings_of(shape: ConvShape) -> list[list[Opening]]:
    """Fresh blocks that open stages: those behind the stem, then those behind each slot."""
    behind: list[list[Opening]] = [[]]
    channels, side = shape.stem_channels, shape.stem_side
    for stage in shape.stages:
        if stage.opens:
            behind[-1].append(Opening(shape, channels, side, stage))
        channels, side = stage.channels, stage.side
        behind += [[] for _ in range(stage.slots)]
    return behind
