"""Gradients of the cross-entropy by the weights, which several proxies read."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nas.proxies._base import Batch, weights


def weight_gradients(network: nn.Module, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Weights of convolutions and linear maps that the loss depends on, each with its gradient."""
    wanted = [w for w in weights(network) if w.requires_grad]
    with torch.enable_grad():
        loss = cross_entropy(network(batch.inputs), batch.labelled())
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
    pairs = zip(wanted, found, strict=True)
    return [(w.detach(), gradient) for w, gradient in pairs if gradient is not None]
