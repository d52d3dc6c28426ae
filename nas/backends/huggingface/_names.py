"""The chain's parameter names in the spelling of the exported model."""

from __future__ import annotations

_OUTER = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
_NORM = ("input_layernorm", "post_attention_layernorm")
_BRANCH = ("self_attn", "mlp")


def exported_name(name: str) -> str:
    """`slots.5.branch.up_proj.weight` becomes `model.layers.2.mlp.up_proj.weight`."""
    first, _, rest = name.partition(".")
    if first in _OUTER:
        return f"{_OUTER[first]}.{rest}"
    slot, part, rest = rest.split(".", 2)
    layer, second = divmod(int(slot), 2)
    module = (_NORM if part == "norm" else _BRANCH)[second]
    return f"model.layers.{layer}.{module}.{rest}"
