"""Gated feed-forward block (Shazeer, arXiv 2002.05202)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.blocks._activations import activation_of
from nas.blocks._module import Block, BlockContext
from nas.ir import TransformerShape


class GatedFeedForwardBlock(Block):
    """`down(act(gate(x)) * up(x))` with `width` intermediate channels."""

    def __init__(self, shape: TransformerShape, width: int) -> None:
        super().__init__()
        self.activation = activation_of(shape.activation)
        self.gate_proj = nn.Linear(shape.hidden_size, width, bias=shape.ffn_bias)
        self.up_proj = nn.Linear(shape.hidden_size, width, bias=shape.ffn_bias)
        self.down_proj = nn.Linear(width, shape.hidden_size, bias=shape.ffn_bias)

    @property
    def output_layer(self) -> nn.Linear:
        return self.down_proj

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        """Gated activation [batch, tokens, width]."""
        gate, up = self.gate_proj(x), self.up_proj(x)
        if torch.is_grad_enabled() and gate.requires_grad and self.activation is F.silu:
            gated: Tensor = _SiluGate.apply(gate, up)  # type: ignore[no-untyped-call]
            return gated
        plain: Tensor = self.activation(gate) * up
        return plain


class _SiluGate(torch.autograd.Function):
    """`silu(gate) * up` that keeps what its gradient is multiplied by: two numbers a channel, which
    serve every backward pass."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        silu = F.silu(gate)
        sigmoid = gate.sigmoid()
        # sigmoid + silu (1 - sigmoid), times `up`
        slope = torch.addcmul(sigmoid, silu, sigmoid, value=-1).add_(silu).mul_(up)
        ctx.save_for_backward(slope, silu)
        return silu * up

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        slope, silu = ctx.saved_tensors
        return upstream[0] * slope, upstream[0] * silu
