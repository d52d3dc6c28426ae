"""Encoders of the BERT family in AutoDistil's geometry (Xu et al. 2022, arXiv 2201.12507)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nas._quiet import quiet
from nas.networks._base import EncoderNetwork
from nas.networks._seed import seeded
from nas.networks._spec import NetworkSize, NetworkSpec, linear


@dataclass(frozen=True)
class BertSpec(NetworkSpec):
    """`layers` like layers of `heads` heads; costs are of one sequence of `tokens` tokens.

    A head has hidden / `teacher_heads` numbers, rounded down: heads and channels are sliced from
    the teacher independently, so that heads need not divide the hidden size.
    """

    layers: int
    heads: int
    hidden: int
    mlp_ratio: float
    teacher_heads: int = 12
    vocabulary: int = 30_522
    positions: int = 512
    tokens: int = 128

    @property
    def key(self) -> str:
        return f"L{self.layers}-A{self.heads}-H{self.hidden}-R{float(self.mlp_ratio)}"

    @property
    def depth(self) -> int:
        return self.layers

    @property
    def head_dim(self) -> int:
        return self.hidden // self.teacher_heads

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def mlp_width(self) -> int:
        return round(self.hidden * self.mlp_ratio)

    def size(self) -> NetworkSize:
        """Embeddings and layers, without a pooler; look-ups cost no operations."""
        hidden, width, tokens = self.hidden, self.attention_width, self.tokens
        norm = NetworkSize(params=2 * hidden)
        layer = (
            linear(hidden, width, tokens) * 3
            + NetworkSize(flops=2 * tokens * tokens * width)
            + linear(width, hidden, tokens)
            + linear(hidden, self.mlp_width, tokens)
            + linear(self.mlp_width, hidden, tokens)
            + norm * 2
        )
        rows = self.vocabulary + self.positions + 2
        return NetworkSize(params=rows * hidden) + norm + layer * self.layers

    def build(self, seed: int) -> BertEncoder:
        with seeded(seed), quiet():
            return BertEncoder(_model(self))


class BertEncoder(EncoderNetwork):
    """transformers' BertModel; `model` is it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.heads = model.encoder.layer[-1].attention.self.num_attention_heads

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden: Tensor = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return hidden

    def attention_vectors(
        self, tokens: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.model.encoder.layer[-1].attention.self
        caught: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(lambda _, __, output: caught.append(output))
            for layer in (attention.query, attention.key, attention.value)
        ]
        try:
            self(tokens, mask)
        finally:
            for hook in hooks:
                hook.remove()
        # transformers asks for queries, keys and values in this order.
        queries, keys, values = caught
        return queries, keys, values


def _model(spec: BertSpec) -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=spec.vocabulary,
        hidden_size=spec.hidden,
        num_hidden_layers=spec.layers,
        # transformers wants a divisor; the true heads are put in below.
        num_attention_heads=1,
        intermediate_size=spec.mlp_width,
        max_position_embeddings=spec.positions,
        # A network is the same in training mode, and draws no random numbers.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    model = BertModel(config, add_pooling_layer=False)
    for layer in model.encoder.layer:
        _set_heads(layer.attention, spec, config.initializer_range)
    return model.eval()


def _set_heads(attention: Any, spec: BertSpec, spread: float) -> None:
    """Give an attention layer the heads of `spec`, whether they divide the hidden size or not."""
    hidden, width, inner = spec.hidden, spec.attention_width, attention.self
    inner.num_attention_heads, inner.attention_head_size = spec.heads, spec.head_dim
    inner.all_head_size, inner.scaling = width, spec.head_dim**-0.5
    for name in ("query", "key", "value"):
        setattr(inner, name, _initialised(nn.Linear(hidden, width), spread))
    attention.output.dense = _initialised(nn.Linear(width, hidden), spread)


def _initialised(layer: nn.Linear, spread: float) -> nn.Linear:
    nn.init.normal_(layer.weight, std=spread)
    nn.init.zeros_(layer.bias)
    return layer
