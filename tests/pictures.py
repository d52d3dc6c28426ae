"""Small random residual networks over pictures, on disk and as torch's own code has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from nas.chain import ConvChain
from nas.ir import (
    Architecture,
    BasicConvolution,
    BottleneckConvolution,
    ConvShape,
    LinearMap,
    LowRankConvolution,
    SeparableConvolution,
    Skip,
    Stage,
)

SIDE = 8
CLASSES = 5

MIXED_PICTURES = Architecture(
    choices={
        "layers.0.stage1": BasicConvolution(width=3),
        "layers.1.stage1": BottleneckConvolution(width=4),
        "layers.2.stage1": LowRankConvolution(),
        "layers.3.stage2": SeparableConvolution(multiplier=2),
        "layers.4.stage2": LowRankConvolution(rank=3),
        "layers.5.stage3": LinearMap(),
        "layers.6.stage3": Skip(),
    }
)
"""For `picture_shape`: every kind of block once."""


def picture_shape(**overrides: object) -> ConvShape:
    """Three stages of 6, 8 and 12 channels at sides of 8, 4 and 2, with padded shortcuts."""
    stages = (
        Stage(slots=3, opens=False, channels=6, width=6, side=8),
        Stage(slots=2, opens=True, channels=8, width=8, side=4),
        Stage(slots=2, opens=True, channels=12, width=12, side=2),
    )
    settings: dict[str, object] = {
        "family": "resnet",
        "layers": 7,
        "block": "basic",
        "stages": stages,
        "stem_channels": 6,
        "shortcut": "pad",
        "classes": CLASSES,
        "image_side": SIDE,
    }
    return ConvShape.model_validate({**settings, **overrides})


def tiny_classifier(
    architecture: Architecture = MIXED_PICTURES, seed: int = 0, shape: ConvShape | None = None
) -> ConvChain:
    """A frozen chain in eval mode whose weights and biases all matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chain = ConvChain(shape or picture_shape(), architecture)
    return chain.eval().requires_grad_(False)


def pictures(count: int, seed: int = 0, side: int = SIDE) -> Tensor:
    """Random bytes [count, 3, side, side]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def write_pictures(path: Path, count: int, labels: bool = True, side: int = SIDE) -> Path:
    """An .npz file of random pictures, each with a label."""
    images = pictures(count, side=side).permute(0, 2, 3, 1).numpy()
    rows = np.random.default_rng(0).integers(0, CLASSES, count)
    np.savez(path, images=images, **({"labels": rows} if labels else {}))
    return path


class ResNet(nn.Module):
    """A residual network with batch norms, its modules named as torchvision's are.

    `expansion` 4: bottlenecks; `pads`: shortcuts without weights, as in the usual CIFAR code.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        bottleneck: bool = False,
        pads: bool = False,
        stem: int = 3,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.conv1 = nn.Conv2d(3, widths[0], stem, 1 if stem == 3 else 2, stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        for number, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
            made = []
            for place in range(count):
                stride = 2 if number > 1 and place == 0 else 1
                made.append(_Block(channels, width, stride, bottleneck, pads))
                channels = width * (4 if bottleneck else 1)
            setattr(self, f"layer{number}", nn.Sequential(*made))
        self.count = len(blocks)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        if self.stem != 3:
            x = F.max_pool2d(x, 3, 2, 1)
        for number in range(1, self.count + 1):
            x = getattr(self, f"layer{number}")(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool, pads: bool) -> None:
        super().__init__()
        outputs = width * (4 if bottleneck else 1)
        sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        if not bottleneck:
            sizes = [(inputs, width, 3, stride), (width, width, 3, 1)]
        self.layers = len(sizes)
        for i, (a, b, kernel, step) in enumerate(sizes, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.stride, self.missing = stride, outputs - inputs
        self.downsample = None
        if (stride > 1 or inputs != outputs) and not pads:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.layers + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.layers else y
        if self.downsample is not None:
            return F.relu(y + self.downsample(x))
        before = self.missing // 2
        x = F.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before)
        )
        return F.relu(y + x)


def random_resnet(model: ResNet, seed: int = 0) -> ResNet:
    """Random weights, and statistics of batch norms that are none of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            scale = (value[0].numel() if value.ndim > 1 else 4) ** -0.5
            positive = name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight"))
            value.copy_(0.5 + drawn.abs() if positive else scale * drawn)
    return model.eval()


def write_resnet(model: ResNet, path: Path) -> Path:
    """The weights, as torchvision's checkpoints have them."""
    save_file({n: v.contiguous() for n, v in model.state_dict().items()}, path)
    return path
