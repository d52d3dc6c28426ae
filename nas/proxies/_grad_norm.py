"""Gradient norm: how strongly the loss pulls at the weights."""

from __future__ import annotations

from nas.proxies._base import Proxy, Trial
from nas.proxies._loss_gradients import weight_gradients


class GradNorm(Proxy):
    """Sum over layers of the Euclidean norm of dL/dW."""

    name = "grad_norm"
    needs = frozenset({"data", "labels"})
    over = "pictures"
    cost = "backward"
    source = "Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021"

    def score(self, trial: Trial) -> float:
        found = weight_gradients(trial.image_network(), trial.batch)
        return sum(float(gradient.norm()) for _, gradient in found)
