"""A residual network over pictures whose blocks differ, as written by the student compiler nas.

Needs torch and safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Block(nn.Module):
    """`relu(shortcut(x) + branch(x))`."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.relus = [conv["relu"] for conv in config["branch"]]
        self.branch = nn.ModuleList(convolution(conv) for conv in config["branch"])
        self.kept: dict[str, Any] | None = config["shortcut"]
        projects = self.kept is not None and "kernel" in self.kept
        self.projection = convolution(self.kept) if projects and self.kept else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv, relu in zip(self.branch, self.relus, strict=True):
            y = F.relu(conv(y)) if relu else conv(y)
        return F.relu(y + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            projected: Tensor = self.projection(x)
            return projected
        if self.kept is None:
            return x
        stride = self.kept["stride"]
        channels = (self.kept["before"], self.kept["after"])
        return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, *channels))


class Student(nn.Module):
    """Normalised pictures [batch, 3, side, side] to logits [batch, classes]."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.stem = convolution(config["stem"])
        self.blocks = nn.ModuleList(Block(block) for block in config["blocks"])
        self.head = nn.Linear(config["channels"], config["classes"])

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = F.relu(self.stem(pixel_values))
        if self.config["stem"]["pools"]:
            x = F.max_pool2d(x, 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits

    def normalised(self, pictures: Tensor) -> Tensor:
        """Bytes [batch, 3, side, side] as the network takes them."""
        mean, std = (
            torch.tensor(self.config[name]).view(3, 1, 1) for name in ("image_mean", "image_std")
        )
        return (pictures.float() / 255 - mean) / std


def convolution(config: dict[str, Any]) -> nn.Conv2d:
    kernel = config["kernel"]
    return nn.Conv2d(
        config["inputs"],
        config["outputs"],
        kernel,
        config["stride"],
        kernel // 2,
        groups=config["groups"],
        bias=config["bias"],
    )


def load(folder: str | Path) -> Student:
    """The student in `folder`, in evaluation mode."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    student = Student(config)
    stored = load_file(folder / "model.safetensors")
    student.load_state_dict({own: stored[name] for own, name in _names(config).items()})
    return student.eval()


def _names(config: dict[str, Any]) -> dict[str, str]:
    """Names of parameters here -> names in the file, which tell the teacher's layers."""
    modules = {"stem": config["stem"]}
    for i, block in enumerate(config["blocks"]):
        for j, conv in enumerate(block["branch"]):
            modules[f"blocks.{i}.branch.{j}"] = conv
        if block["shortcut"] and "kernel" in block["shortcut"]:
            modules[f"blocks.{i}.projection"] = block["shortcut"]
    names = {"head.weight": "head.weight", "head.bias": "head.bias"}
    for own, conv in modules.items():
        for leaf in ("weight", "bias") if conv["bias"] else ("weight",):
            names[f"{own}.{leaf}"] = f"{conv['name']}.{leaf}"
    return names
