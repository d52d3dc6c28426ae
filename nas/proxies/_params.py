"""The number of parameters: the baseline that a proxy has to beat."""

from __future__ import annotations

from torch import nn

from nas.proxies._base import Proxy, Trial


class Params(Proxy):
    """Trainable numbers of the network."""

    name = "params"
    cost = "count"
    source = "baseline"

    def score(self, trial: Trial) -> float:
        return float(parameters(trial.network()))


def parameters(network: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
