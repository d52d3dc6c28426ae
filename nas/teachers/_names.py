"""The chain's parameter names in the spelling of a checkpoint format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How a checkpoint format spells parameters.

    `outer` maps what stands outside the slots (`embed`, `norm`, `head`, ...); `layer` is a pattern
    with `{layer}`; `attention` and `ffn` map the parts of a slot (`norm`, `branch.q_proj`, ...).
    """

    outer: Mapping[str, str]
    layer: str
    attention: Mapping[str, str]
    ffn: Mapping[str, str]

    def foreign(self, name: str) -> str:
        """`slots.4.branch.q_proj.weight` as the format calls it."""
        stem, _, suffix = name.rpartition(".")
        if not stem.startswith("slots."):
            return f"{self.outer[stem]}.{suffix}"
        _, slot, part = stem.split(".", 2)
        layer, is_ffn = divmod(int(slot), 2)
        parts = self.ffn if is_ffn else self.attention
        return f"{self.layer.format(layer=layer)}.{parts[part]}.{suffix}"


HUGGING_FACE = Layout(
    outer={"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"},
    layer="model.layers.{layer}",
    attention={
        "norm": "input_layernorm",
        **{f"branch.{x}_proj": f"self_attn.{x}_proj" for x in ("q", "k", "v", "o")},
        **{f"branch.{x}_norm": f"self_attn.{x}_norm" for x in ("q", "k")},
    },
    ffn={
        "norm": "post_attention_layernorm",
        **{f"branch.{x}_proj": f"mlp.{x}_proj" for x in ("gate", "up", "down")},
    },
)

GGUF = Layout(
    outer={"embed": "token_embd", "norm": "output_norm", "head": "output"},
    layer="blk.{layer}",
    attention={
        "norm": "attn_norm",
        **{f"branch.{x}_proj": f"attn_{x}" for x in ("q", "k", "v")},
        "branch.o_proj": "attn_output",
        **{f"branch.{x}_norm": f"attn_{x}_norm" for x in ("q", "k")},
    },
    ffn={
        "norm": "ffn_norm",
        **{f"branch.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")},
    },
)
