"""jacov: how uncorrelated the input gradients of different samples are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nas.proxies._base import Proxy, Trial

_EPSILON = 1e-5


class Jacov(Proxy):
    """-sum_i log(v_i + k) + 1 / (v_i + k), v the eigenvalues of the correlations, k = 1e-5.

    Correlated are the gradients of the summed logits by each input. nan where a gradient is
    constant: the output does not depend on that input.
    """

    name = "jacov"
    needs = frozenset({"data"})
    over = "pictures"
    cost = "backward"
    source = "Mellor et al., arXiv 2006.04647 version 1; Abdelfattah et al., ICLR 2021"

    def score(self, trial: Trial) -> float:
        network = trial.image_network()
        inputs = trial.batch.inputs.detach().clone().requires_grad_()
        with torch.enable_grad():
            total = network(inputs).sum()
            if not total.requires_grad:
                return math.nan
            (found,) = torch.autograd.grad(total, inputs, allow_unused=True)
        return math.nan if found is None else spectrum_score(found)


def spectrum_score(gradients: Tensor) -> float:
    """The score of gradients [N, ...]."""
    rows = gradients.flatten(1).double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    lengths = rows.norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all()) or not bool(lengths.isfinite().all()):
        return math.nan
    rows = rows / lengths
    values = torch.linalg.eigvalsh(rows @ rows.T).clamp(min=0) + _EPSILON
    return -float((values.log() + 1 / values).sum())
