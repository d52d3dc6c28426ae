"""Residual networks over pictures in a safetensors file, by the names of their modules.

The names are those of torchvision and timm (`layer1.0.conv1`, `layer1.0.bn1`,
`layer2.0.downsample.0`, `fc`) and of the usual code for CIFAR (`shortcut.0`, `linear`). Batch norms
are folded into the convolutions before them: evaluated, they are a scale and a shift.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from nas._documents import brief
from nas.config import ImageConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import ConvShape, Stage
from nas.teachers._base import TeacherSource
from nas.teachers._digest import digest_files
from nas.teachers._plain import stored_sizes

_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")
_HEADS = ("fc", "linear", "head")
_SHORTCUTS = ("downsample", "shortcut")
_EPSILON = 1e-5
_UNREAD = "num_batches_tracked"

_NEEDS = {
    "se.": "squeeze-and-excitation",
    "conv1.0.": "a stem of several convolutions",
    "conv4.": "blocks of more than three convolutions",
    "downsample.2.": "a shortcut that pools",
}


@dataclass(frozen=True)
class _Folded:
    """A convolution and its batch norm: names of the stored modules."""

    conv: str
    norm: str


class ResNetSource(TeacherSource):
    """A CIFAR ResNet, or a ResNet as torchvision and timm name it."""

    def __init__(self, path: Path, image: ImageConfig | None = None) -> None:
        self.path, self.image = path, image or ImageConfig()

    def shape(self) -> ConvShape:
        return self._parsed[0]

    def tensor_names(self) -> Set[str]:
        return self._parsed[1].keys()

    def foreign_name(self, name: str) -> str:
        return name

    def read(self, name: str) -> Tensor:
        """A parameter of the chain, folded, with a 3x3 that is fitted as patches laid out so."""
        source, leaf = self._parsed[1][name], name.rpartition(".")[2]
        if isinstance(source, str):
            weight, bias = self._tensor(f"{source}.weight"), self._tensor(f"{source}.bias")
            return torch.cat((weight, bias[:, None]), dim=1)
        scale = (
            self._tensor(f"{source.norm}.weight")
            / (self._tensor(f"{source.norm}.running_var") + _EPSILON).sqrt()
        )
        if leaf == "bias":
            shift = self._tensor(f"{source.norm}.bias")
            return shift - self._tensor(f"{source.norm}.running_mean") * scale
        weight = self._tensor(f"{source.conv}.weight") * scale[:, None, None, None]
        return weight.flatten(1) if _is_linear(name, self.shape()) else weight

    def ignorable(self, name: str) -> bool:
        return False

    def tokenizer(self) -> Any:
        raise ConfigError(f"{self.path}: a network over pictures has no tokenizer")

    def digest(self) -> str:
        return digest_files([self.path])

    def _tensor(self, name: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
        except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"{self.path}: {brief(name)} cannot be read ({error}); fetch it again"
            ) from error
        return tensor.float()

    @cached_property
    def _parsed(self) -> tuple[ConvShape, dict[str, _Folded | str]]:
        sizes = stored_sizes(self.path)
        try:
            return _Names(sizes, self.image, str(self.path)).parse()
        except ValidationError as error:
            problem = error.errors()[0]
            raise CapabilityError(
                f"{self.path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            ) from error


def is_resnet(names: Set[str]) -> bool:
    """Whether stored tensors are spelt as those of a residual network."""
    return {"conv1.weight", "layer1.0.conv1.weight"} <= set(names)


class _Names:
    """Reads a network off the names and sizes of its tensors."""

    def __init__(
        self, sizes: Mapping[str, tuple[int, ...]], image: ImageConfig, where: str
    ) -> None:
        self.sizes, self.image, self.where = sizes, image, where
        self.used: dict[str, _Folded | str] = {}

    def parse(self) -> tuple[ConvShape, dict[str, _Folded | str]]:
        """The shape, and what each parameter of the chain is read from."""
        if not is_resnet(self.sizes.keys()):
            raise CapabilityError(
                f"{self.where}: not a residual network: it has no conv1.weight and "
                f"layer1.0.conv1.weight; choose a ResNet with the names of torchvision, timm or "
                f"the usual CIFAR code"
            )
        blocks = self._blocks()
        kinds = {"bottleneck" if "conv3.weight" in names else "basic" for names in blocks.values()}
        if len(kinds) > 1:
            raise CapabilityError(f"{self.where}: some blocks have two convolutions, others three")
        kind = kinds.pop()
        stem, kernel = self.sizes["conv1.weight"][0], self.sizes["conv1.weight"][2]
        self._fold("stem", _Folded("conv1", "bn1"))
        shortcut = self._shortcut(blocks)
        stages, openings = self._stages(blocks, kind, stem, kernel)
        head = next((h for h in _HEADS if f"{h}.weight" in self.sizes), None)
        if head is None:
            raise CapabilityError(f"{self.where}: no classifier ({', '.join(_HEADS)})")
        self.used["head.weight"] = head
        shape = ConvShape(
            family="resnet",
            layers=sum(stage.slots for stage in stages) or 1,
            block=kind,
            stages=tuple(stages),
            stem_channels=stem,
            stem_kernel=kernel,
            shortcut="pad" if shortcut is None else "projection",
            classes=self.sizes[f"{head}.weight"][0],
            image_side=self._side(kernel),
            image_mean=self.image.mean,
            image_std=self.image.std,
        )
        if not shape.slots():
            raise CapabilityError(f"{self.where}: no block keeps the size of the state: no slots")
        self._name_blocks(kind, stages, openings, shortcut)
        self._refuse_strange()
        return shape, self.used

    def _blocks(self) -> dict[tuple[int, int], set[str]]:
        """Names inside each block, by stage and place, in order."""
        found: dict[tuple[int, int], set[str]] = {}
        for name in self.sizes:
            if match := _BLOCK.fullmatch(name):
                found.setdefault((int(match[1]), int(match[2])), set()).add(match[3])
        return dict(sorted(found.items()))

    def _shortcut(self, blocks: Mapping[tuple[int, int], set[str]]) -> str | None:
        spelt = {s for names in blocks.values() for s in _SHORTCUTS if f"{s}.0.weight" in names}
        return min(spelt, default=None)

    def _stages(
        self, blocks: Mapping[tuple[int, int], set[str]], kind: str, stem: int, kernel: int
    ) -> tuple[list[Stage], set[tuple[int, int]]]:
        last = "conv3" if kind == "bottleneck" else "conv2"
        side = self._side(kernel)
        side = side if kernel == 3 else (side + 3) // 4
        stages: list[Stage] = []
        openings: set[tuple[int, int]] = set()
        channels = stem
        for stage in sorted({s for s, _ in blocks}):
            own = [place for s, place in blocks if s == stage]
            prefix = f"layer{stage}.0"
            out, width = self._first(f"{prefix}.{last}"), self._first(f"{prefix}.conv1")
            opens = stage > 1 or out != channels or bool(self._shortcut({(0, 0): blocks[stage, 0]}))
            if stage > 1:
                side = -(-side // 2)
            if opens:
                openings.add((stage, 0))
            stages.append(
                Stage(slots=len(own) - opens, opens=opens, channels=out, width=width, side=side)
            )
            channels = out
        return stages, openings

    def _first(self, module: str) -> int:
        try:
            return self.sizes[f"{module}.weight"][0]
        except (KeyError, IndexError):
            raise CapabilityError(f"{self.where}: it has no {module}.weight") from None

    def _name_blocks(
        self,
        kind: str,
        stages: list[Stage],
        openings: set[tuple[int, int]],
        shortcut: str | None,
    ) -> None:
        """Where the chain's parameters of every block come from."""
        slot, behind, count = 0, "openings", 0
        for number, stage in enumerate(stages, 1):
            for place in range(stage.slots + stage.opens):
                prefix = f"layer{number}.{place}"
                convs = 3 if kind == "bottleneck" else 2
                pairs = [
                    _Folded(f"{prefix}.conv{i}", f"{prefix}.bn{i}") for i in range(1, convs + 1)
                ]
                if (number, place) in openings:
                    for i, pair in enumerate(pairs):
                        self._fold(f"{behind}.{count}.convs.{i}", pair)
                    if shortcut is not None:
                        pair = _Folded(f"{prefix}.{shortcut}.0", f"{prefix}.{shortcut}.1")
                        self._fold(f"{behind}.{count}.shortcut", pair)
                    count += 1
                    continue
                for i, pair in enumerate(pairs, 1):
                    self._fold(f"slots.{slot}.branch.conv{i}", pair)
                behind, count = f"slots.{slot}.openings", 0
                slot += 1

    def _fold(self, name: str, pair: _Folded) -> None:
        self.used[f"{name}.weight"] = self.used[f"{name}.bias"] = pair

    def _side(self, kernel: int) -> int:
        return self.image.side or (32 if kernel == 3 else 224)

    def _refuse_strange(self) -> None:
        """Raise CapabilityError for a tensor that is missing, or that has no place in the chain."""
        known: set[str] = set()
        for source in self.used.values():
            if isinstance(source, str):
                known |= {f"{source}.weight", f"{source}.bias"}
            else:
                norm = ("weight", "bias", "running_mean", "running_var")
                known |= {f"{source.conv}.weight", *(f"{source.norm}.{leaf}" for leaf in norm)}
        stored = {name for name in self.sizes if not name.endswith(_UNREAD)}
        if missing := sorted(known - stored):
            raise CapabilityError(
                f"{self.where}: the weights lack {missing[0]}; batch norms with statistics, and "
                f"convolutions without biases, are what a ResNet here is made of"
            )
        if strange := sorted(stored - known):
            why = next((n for part, n in _NEEDS.items() if part in strange[0]), "a place for it")
            raise CapabilityError(
                f"{self.where}: the weights hold {strange[0]} ({len(strange)} tensors in all), "
                f"which a chain of residual blocks has no place for; it would need {why}"
            )
        for source in self.used.values():
            if isinstance(source, _Folded) and source.conv.endswith("conv2"):
                self._refuse_groups(source.conv)

    def _refuse_groups(self, conv: str) -> None:
        inputs = self.sizes[f"{conv}.weight"][1]
        before = self.sizes[f"{conv[:-1]}1.weight"][0]
        if inputs != before:
            raise CapabilityError(
                f"{self.where}: {conv} reads {inputs} of {before} channels: it would need "
                f"convolutions in groups, which the candidates do not know"
            )


def _is_linear(name: str, shape: ConvShape) -> bool:
    """Whether the chain holds a convolution as a linear layer over patches or pixels."""
    if ".branch." not in name:
        return False
    layers = ("conv1.weight", "conv3.weight") if shape.block == "bottleneck" else ("conv2.weight",)
    return name.endswith(layers)
