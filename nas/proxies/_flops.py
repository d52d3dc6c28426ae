"""Multiply-adds: the other size baseline."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.proxies._base import Proxy, Trial


class Flops(Proxy):
    """Multiply-adds on one input, which is what the papers of this field call FLOPs."""

    name = "flops"
    cost = "count"
    source = "baseline"

    def score(self, trial: Trial) -> float:
        network = trial.network().eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            network(trial.batch.inputs[:1])
        return counter.get_total_flops() / 2
