"""Trainability: whether gradients keep their size from block to block."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from nas.proxies._base import Proxy, Trial
from nas.proxies._blocks import block_outputs, noise_like


class Trainability(Proxy):
    """Mean over blocks of 2 - s - 1/s, s the spectral norm of the block's Jacobian: 0 at best.

    The Jacobian over channels is estimated by passing random signs r back through the block:
    mean over samples and places of g r', g the gradient by the block's input. Where the block
    halves the picture, the four places of the input are taken as more channels. Passed is Gaussian
    noise. nan for fewer than two blocks.
    """

    name = "trainability"
    over = "pictures"
    cost = "backward"
    source = "Lee and Ham, AZ-NAS, CVPR 2024 (arXiv 2403.19232)"

    def score(self, trial: Trial) -> float:
        network, generator = trial.image_network(), trial.generator()
        with torch.enable_grad(), block_outputs(network) as outputs:
            network.features(noise_like(trial).requires_grad_())
        found = [_conditioning(before, after, generator) for before, after in pairwise(outputs)]
        return sum(found) / len(found) if found else math.nan


def _conditioning(before: Tensor, after: Tensor, generator: torch.Generator) -> float:
    signs = torch.randint(0, 2, after.shape, generator=generator).to(after.dtype) * 2 - 1
    found = None
    # A block that answers with plain zeros has no path back.
    if before.requires_grad and after.requires_grad:
        (found,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
    norm = 0.0 if found is None else spectral_norm(found, signs)
    return 2 - norm - 1 / (norm + 1e-6)


def spectral_norm(gradient: Tensor, signs: Tensor) -> float:
    """Of the estimated Jacobian: gradients [N, C, H, W] by signs [N, D, h, w], H = k h."""
    stride = gradient.shape[-1] // signs.shape[-1]
    if stride > 1:
        gradient = pixel_unshuffle(gradient, stride)
    rows = gradient.transpose(0, 1).flatten(1)
    columns = signs.transpose(0, 1).flatten(1)
    jacobian = rows @ columns.T / columns.shape[1]
    return float(torch.linalg.matrix_norm(jacobian.double(), ord=2))
