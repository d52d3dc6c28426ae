"""Zen-score: how much the features of a Gaussian network move with its input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nas.proxies._base import Proxy, Trial, draw_normal

_ALPHA = 0.01


class Zen(Proxy):
    """log E||f(x) - f(x + 0.01 e)|| + sum over norms of log sqrt(mean variance of the batch).

    x and e are N(0, 1) of the batch's shape, the weights too; f are the features before pooling.
    Shortcuts stay as they are (the paper removes them). nan where the features do not move.
    """

    name = "zen"
    over = "pictures"
    cost = "forward"
    source = "Lin et al., Zen-NAS, ICCV 2021 (arXiv 2102.01063)"

    def score(self, trial: Trial) -> float:
        network, generator = trial.image_network(), trial.generator()
        draw_normal(network, generator)
        shape = trial.batch.inputs.shape
        inputs = torch.randn(shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        with torch.no_grad():
            with _variances(network) as variances:
                before = network.features(inputs)
            after = network.features(inputs + _ALPHA * noise)
        moved = float((before - after).flatten(1).norm(dim=1).mean())
        if not moved > 0 or not math.isfinite(moved):
            return math.nan
        return math.log(moved) + sum(0.5 * math.log(v) for v in variances if v > 0)


@contextmanager
def _variances(network: nn.Module) -> Iterator[list[float]]:
    """The mean over channels of the batch variance that every batch norm divides by."""
    found: list[float] = []

    def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        spread = inputs[0].transpose(0, 1).flatten(1).var(dim=1, correction=0)
        found.append(float(spread.mean()))

    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(see) for norm in norms]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
