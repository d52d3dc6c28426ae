"""SynFlow: how much signal flows through all weights together, data aside."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas.proxies._base import Proxy, Trial


class SynFlow(Proxy):
    """log(1 + sum of theta dR/dtheta), R the summed logits for an input of ones.

    All weights are taken as their absolute values, in double precision, and a fresh network's
    normalisation is passed in evaluation mode, where it changes nothing. The logarithm keeps the
    order and fits a float at any depth; a network that passes nothing on scores 0.
    """

    name = "synflow"
    over = "pictures"
    cost = "backward"
    source = "Tanaka et al., SynFlow, NeurIPS 2020; Abdelfattah et al., ICLR 2021"

    def score(self, trial: Trial) -> float:
        network = linearised(trial.image_network())
        found = flow_gradients(network, trial.batch.inputs)
        total = sum(float((p * g).sum()) for p, g in found)
        return math.log1p(total)


class LiveParams(Proxy):
    """Parameters that the logits depend on: those of dead branches count nothing.

    Found by the gradients of SynFlow, which are positive wherever a path leads to the output.
    """

    name = "live_params"
    over = "pictures"
    cost = "backward"
    source = "baseline; this project"

    def score(self, trial: Trial) -> float:
        network = linearised(trial.image_network())
        found = flow_gradients(network, trial.batch.inputs)
        return float(sum(int((gradient != 0).sum()) for _, gradient in found))


def linearised(network: nn.Module) -> nn.Module:
    """`network` itself in double precision and evaluation mode, every parameter positive."""
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    return network


def flow_gradients(network: nn.Module, inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each parameter that the summed logits of an input of ones depend on, and its gradient."""
    ones = torch.ones_like(inputs[:1], dtype=torch.float64)
    wanted = [p for p in network.parameters() if p.requires_grad]
    with torch.enable_grad():
        total = network(ones).sum()
        if not total.requires_grad:
            return []
        found = torch.autograd.grad(total, wanted, allow_unused=True)
    pairs = zip(wanted, found, strict=True)
    return [(p.detach(), gradient) for p, gradient in pairs if gradient is not None]
