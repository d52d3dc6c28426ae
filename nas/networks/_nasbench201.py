"""The network around a NAS-Bench-201 cell (Dong and Yang 2020, figure 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from nas.networks._base import ImageNetwork
from nas.networks._cell import EDGES, KERNELS, Cell
from nas.networks._seed import seeded
from nas.networks._spec import NetworkSize, NetworkSpec, convolution, linear


@dataclass(frozen=True)
class NasBench201Spec(NetworkSpec):
    """Stem of `width` channels, three stages of `cells` cells, channels doubled between them.

    Weights start as torch's layers do, as in the benchmark.
    """

    cell: Cell
    width: int = 16
    cells: int = 5
    classes: int = 10
    image_size: int = 32

    @property
    def key(self) -> str:
        return self.cell.text

    @property
    def depth(self) -> int:
        return 3 * self.cells * self.cell.depth + 6

    def size(self) -> NetworkSize:
        side, width = self.image_size, self.width
        total = convolution(3, width, 3, side)
        for stage in range(3):
            if stage:
                side = (side + 1) // 2
                total += _reduction_size(width, side)
                width *= 2
            for kernel in map(KERNELS.get, self.cell.operations):
                if kernel:
                    total += convolution(width, width, kernel, side) * self.cells
        # The norm before pooling has no convolution.
        return total + NetworkSize(params=2 * width) + linear(width, self.classes)

    def build(self, seed: int) -> NasBench201Network:
        with seeded(seed):
            return NasBench201Network(self)


def _reduction_size(width: int, side: int) -> NetworkSize:
    shortcut = width * 2 * width
    return (
        convolution(width, 2 * width, 3, side)
        + convolution(2 * width, 2 * width, 3, side)
        + NetworkSize(shortcut, shortcut * side * side)
    )


class NasBench201Network(ImageNetwork):
    """Stem, three stages of cells with a residual reduction block between, norm, head."""

    def __init__(self, spec: NasBench201Spec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        body: list[nn.Module] = []
        for stage in range(3):
            if stage:
                body.append(ReductionBlock(width))
                width *= 2
            body += [CellModule(spec.cell, width) for _ in range(spec.cells)]
        self.body = nn.Sequential(*body)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, spec.classes)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(self.norm(self.body(self.stem(images))))


class CellModule(nn.Module):
    """Each node is the sum of what its edges bring; the last one is the output."""

    def __init__(self, cell: Cell, width: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{source}_{node}": _operation(name, width)
                for (source, node), name in zip(EDGES, cell.operations, strict=True)
                if name != "none"
            }
        )

    def forward(self, state: Tensor) -> Tensor:
        nodes: list[Tensor | None] = [state, None, None, None]
        for source, node in EDGES:
            name, before = f"{source}_{node}", nodes[source]
            if name in self.edges and before is not None:
                brought, held = self.edges[name](before), nodes[node]
                nodes[node] = brought if held is None else held + brought
        return state.new_zeros(state.shape) if nodes[3] is None else nodes[3]


def _operation(name: str, width: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    kernel = KERNELS[name]
    return _convolution(width, width, kernel, stride=1)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """ReLU, convolution, norm: the order of the benchmark."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ReductionBlock(nn.Module):
    """Half the side, twice the channels; the shortcut pools and maps without a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(width, 2 * width, 3, stride=2),
            _convolution(2 * width, 2 * width, 3, stride=1),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True), nn.Conv2d(width, 2 * width, 1, bias=False)
        )

    def forward(self, state: Tensor) -> Tensor:
        reduced: Tensor = self.shortcut(state) + self.branch(state)
        return reduced
