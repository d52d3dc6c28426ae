"""ZiCo: gradients that are large and agree between batches."""

from __future__ import annotations

import math

import torch

from nas.errors import ConfigError
from nas.proxies._base import Batch, Proxy, Trial
from nas.proxies._loss_gradients import weight_gradients


class ZiCo(Proxy):
    """Sum over layers of log sum over weights of E|g| / sqrt(Var|g|).

    Mean and (population) variance are taken over `batches` equal parts of the trial's batch, each
    passed alone. A layer without any gradient, or whose gradient never varies, is left out; nan
    where that is every layer.
    """

    name = "zico"
    needs = frozenset({"data", "labels"})
    over = "pictures"
    cost = "backward"
    source = "Li et al., ZiCo, ICLR 2023 (arXiv 2301.11300)"

    def __init__(self, batches: int = 2) -> None:
        if batches < 2:
            raise ConfigError(f"zico compares batches; {batches} is too few, take 2 or more")
        self.batches = batches

    def score(self, trial: Trial) -> float:
        network = trial.image_network()
        size = len(trial.batch.inputs) // self.batches
        if size < 1:
            raise ConfigError(f"zico cuts the batch into {self.batches} parts; give more samples")
        parts = [
            Batch(
                trial.batch.inputs[i * size : (i + 1) * size],
                trial.batch.labelled()[i * size : (i + 1) * size],
            )
            for i in range(self.batches)
        ]
        by_part = [[g for _, g in weight_gradients(network, part)] for part in parts]
        terms = []
        for layer in zip(*by_part, strict=True):
            sizes = torch.stack(layer).double().abs()
            mean, spread = sizes.mean(dim=0), sizes.std(dim=0, correction=0)
            moved = spread > 0
            if bool(moved.any()):
                terms.append(math.log(float((mean[moved] / spread[moved]).sum())))
        return sum(terms) if terms else math.nan
