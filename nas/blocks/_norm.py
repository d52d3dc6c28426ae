"""Normalisation: by the root mean square (Zhang and Sennrich, arXiv 1910.07467), or centred (Ba et
al., arXiv 1607.06450)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Normalises the last dimension; statistics in float32, output in the weight's type."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.dtype == self.weight.dtype == torch.float32:
            trained: Tensor = _TrainedNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
            return trained
        if torch.is_grad_enabled() and x.dtype == torch.float32 and not self.weight.requires_grad:
            frozen: Tensor = _FrozenNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
            return frozen
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        normed: Tensor = self.weight * wide.to(self.weight.dtype)
        return normed


class LayerNorm(nn.LayerNorm):
    """torch's, for a state in a wider format than the weights: statistics in float32, output in the
    weight's type."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.exact(x).to(self.weight.dtype)

    def exact(self, x: Tensor) -> Tensor:
        """The same in float32."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps)


class _FrozenNorm(torch.autograd.Function):
    """From float32 to the weight's lower format, with the same numbers; the weight learns nothing.

    For gradients through a teacher in the processor's fast format, where autograd's own graph is as
    slow as in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        normed = x * scale
        ctx.save_for_backward(normed, weight.float(), scale)
        return weight * normed.to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        normed, weight, scale = ctx.saved_tensors
        inner = upstream[0] * weight
        mean = (inner * normed).mean(-1, keepdim=True)
        return inner.addcmul_(normed, mean, value=-1).mul_(scale), None, None


class _TrainedNorm(torch.autograd.Function):
    """The same in float32, saving one number a row beside the input.

    Autograd's own graph keeps three copies of the input and takes some six times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        power = torch.linalg.vector_norm(x, dim=-1, keepdim=True).pow_(2).div_(x.shape[-1])
        scale = power.add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        normed: Tensor = x * scale * weight
        return normed

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        (grad,) = upstream
        normed = x * scale
        grad_weight = (grad * normed).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        inner = grad * weight
        inner -= normed * (inner * normed).mean(-1, keepdim=True)
        return inner.mul_(scale), grad_weight, None
