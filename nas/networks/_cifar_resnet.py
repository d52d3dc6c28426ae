"""Three-stage residual networks for small pictures (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.errors import ArtifactError, ConfigError
from nas.networks._base import ImageNetwork
from nas.networks._seed import seeded
from nas.networks._spec import NetworkSize, NetworkSpec, convolution, linear

Triple = tuple[int, int, int]
# Foreign names of the stem, the stages and the head, and ours.
_RENAMED = {"conv1": "stem.0", "bn1": "stem.1", "linear": "head", "fc": "head"}


@dataclass(frozen=True)
class CifarResNetSpec(NetworkSpec):
    """`blocks` of each stage, at least one; (9, 9, 9) is ResNet-56. Shortcuts have no weights."""

    blocks: Triple
    widths: Triple = (16, 32, 64)
    classes: int = 10
    image_size: int = 32

    @property
    def key(self) -> str:
        return "-".join(map(str, self.blocks))

    @property
    def depth(self) -> int:
        return 2 * sum(self.blocks) + 2

    def size(self) -> NetworkSize:
        side, inputs = self.image_size, self.widths[0]
        total = convolution(3, inputs, 3, side)
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            if stage:
                side = (side + 1) // 2
            total += convolution(inputs, width, 3, side)
            total += convolution(width, width, 3, side) * (2 * blocks - 1)
            inputs = width
        return total + linear(inputs, self.classes)

    def build(self, seed: int) -> CifarResNet:
        with seeded(seed):
            network = CifarResNet(self)
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight)
        return network


class CifarResNet(ImageNetwork):
    """Stem, three stages of basic blocks at full, half and quarter side, head."""

    def __init__(self, spec: CifarResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = spec.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, inputs, 3, padding=1, bias=False), nn.BatchNorm2d(inputs)
        )
        self.stages = nn.ModuleList()
        for stage, (blocks, width) in enumerate(zip(spec.blocks, spec.widths, strict=True)):
            made = []
            for block in range(blocks):
                stride = 2 if stage and block == 0 else 1
                made.append(BasicBlock(inputs, width, stride))
                inputs = width
            self.stages.append(nn.Sequential(*made))
        self.head = nn.Linear(inputs, spec.classes)

    def features(self, images: Tensor) -> Tensor:
        state = F.relu(self.stem(images))
        for stage in self.stages:
            state = stage(state)
        return state


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut takes every other pixel and pads channels with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        missing = outputs - inputs
        self.padding = (missing // 2, missing - missing // 2)

    def forward(self, state: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(state)))))
        if self.stride > 1:
            state = state[:, :, :: self.stride, :: self.stride]
        if any(self.padding):
            state = F.pad(state, (0, 0, 0, 0, *self.padding))
        return F.relu(branch + state)


def resnet_from_state(state: Mapping[str, Tensor], where: str) -> CifarResNet:
    """A trained network from the names of the usual CIFAR code (`layer1.0.conv1.weight`, ...).

    The blocks, widths and classes are read off the tensors. Raises ArtifactError.
    """
    ours = {_our_name(name): tensor for name, tensor in state.items()}
    network = _spec_of(ours, where).build(seed=0)
    # Files of other code may have shortcuts with weights, which this family has not.
    expected = {name for name in network.state_dict() if "num_batches_tracked" not in name}
    odd = sorted(expected ^ {name for name in ours if "num_batches_tracked" not in name})
    if odd:
        raise ArtifactError(f"{where}: not a CIFAR ResNet with option A shortcuts: {odd[0]}")
    try:
        network.load_state_dict(ours, strict=False)
    except RuntimeError as error:
        raise ArtifactError(f"{where}: {str(error).splitlines()[-1].strip()}") from error
    return network.eval()


def _our_name(name: str) -> str:
    first, _, rest = name.partition(".")
    if first.startswith("layer") and first[5:].isdecimal():
        return f"stages.{int(first[5:]) - 1}.{rest}"
    return f"{_RENAMED.get(first, first)}.{rest}"


def _spec_of(state: Mapping[str, Tensor], where: str) -> CifarResNetSpec:
    blocks = [
        len({name.split(".")[2] for name in state if name.startswith(f"stages.{stage}.")})
        for stage in range(3)
    ]
    try:
        widths = [state[f"stages.{stage}.0.conv1.weight"].shape[0] for stage in range(3)]
        classes = state["head.weight"].shape[0]
    except KeyError as error:
        raise ArtifactError(f"{where}: not a CIFAR ResNet: it has no {error.args[0]}") from None
    return CifarResNetSpec(_triple(blocks), _triple(widths), classes)


def _triple(values: list[int]) -> Triple:
    first, second, third = values
    return first, second, third


def resnet_from_key(key: str, classes: int = 10) -> CifarResNetSpec:
    """The specification behind `9-9-9`; raises ConfigError."""
    parts = key.split("-")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"{key}: write the blocks of three stages, such as 9-9-9")
    return CifarResNetSpec(_triple([int(part) for part in parts]), classes=classes)


def resnet_state(network: CifarResNet) -> dict[str, Tensor]:
    """The tensors that `resnet_from_state` reads, under our names."""
    return {
        name: tensor.detach().to(torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
        if "num_batches_tracked" not in name
    }
