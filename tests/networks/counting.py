"""Parameters and multiply-accumulates of a built network, counted by torch itself."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def counted(network: nn.Module, inputs: torch.Tensor) -> tuple[int, int]:
    """Trainable numbers, and half of what torch's counter finds in one forward pass."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(inputs)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return sum(p.numel() for p in network.parameters() if p.requires_grad), flops // 2
