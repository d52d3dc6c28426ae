"""SNIP: what the loss would change by if weights left, summed."""

from __future__ import annotations

from nas.proxies._base import Proxy, Trial
from nas.proxies._loss_gradients import weight_gradients


class Snip(Proxy):
    """Sum of |theta dL/dtheta| over the weights of convolutions and linear maps."""

    name = "snip"
    needs = frozenset({"data", "labels"})
    over = "pictures"
    cost = "backward"
    source = "Lee et al., SNIP, ICLR 2019; Abdelfattah et al., ICLR 2021"

    def score(self, trial: Trial) -> float:
        found = weight_gradients(trial.image_network(), trial.batch)
        return sum(float((weight * gradient).abs().sum()) for weight, gradient in found)
