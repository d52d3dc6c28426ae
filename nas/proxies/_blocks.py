"""Primary blocks of a network, and their outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nas.proxies._base import Trial


def primary_blocks(network: nn.Module) -> list[nn.Module]:
    """Residual blocks and cells: outermost modules with parts that stand in a container."""
    return [block for child in network.children() for block in _blocks(child)]


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.Sequential | nn.ModuleList):
        for child in module:
            if isinstance(child, nn.Sequential | nn.ModuleList):
                yield from _blocks(child)
            elif any(True for _ in child.children()):
                yield child


@contextmanager
def block_outputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """Fills a list with what every primary block gives, in order of the passes."""
    found: list[Tensor] = []

    def see(_: nn.Module, __: object, made: Tensor) -> None:
        found.append(made)

    handles = [block.register_forward_hook(see) for block in primary_blocks(network)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def noise_like(trial: Trial) -> Tensor:
    """N(0, 1) of the shape of the trial's pictures."""
    return torch.randn(trial.batch.inputs.shape, generator=trial.generator())
