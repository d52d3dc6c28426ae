"""Expressivity and progressivity: how many directions the features of the blocks fill."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from nas.proxies._base import Proxy, Trial
from nas.proxies._blocks import block_outputs, noise_like

_SOURCE = "Lee and Ham, AZ-NAS, CVPR 2024 (arXiv 2403.19232)"


class Expressivity(Proxy):
    """Sum over blocks of the entropy of the normalised spectrum of channel covariances.

    Passed is Gaussian noise of the batch's shape. nan for a network without primary blocks.
    """

    name = "expressivity"
    over = "pictures"
    cost = "forward"
    source = _SOURCE

    def score(self, trial: Trial) -> float:
        found = _entropies(trial)
        return sum(found) if found else math.nan


class Progressivity(Proxy):
    """The least gain of that entropy from one block to the next; nan for fewer than two blocks."""

    name = "progressivity"
    over = "pictures"
    cost = "forward"
    source = _SOURCE

    def score(self, trial: Trial) -> float:
        found = _entropies(trial)
        return min((b - a for a, b in pairwise(found)), default=math.nan)


def spectrum_entropy(features: Tensor) -> float:
    """Entropy in nats of the normalised eigenvalues of the covariance over [N, C, h, w]."""
    points = features.detach().transpose(0, 1).flatten(1)
    points = points - points.mean(dim=1, keepdim=True)
    values = torch.linalg.eigvalsh((points @ points.T).double() / points.shape[1]).clamp(min=0)
    total = float(values.sum())
    if not total > 0 or not math.isfinite(total):
        return 0.0
    return float(torch.special.entr(values / total).sum())


def _entropies(trial: Trial) -> list[float]:
    network = trial.image_network()
    with torch.no_grad(), block_outputs(network) as outputs:
        network.features(noise_like(trial))
    return [spectrum_entropy(features) for features in outputs]
