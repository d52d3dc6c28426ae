"""A chain as a transformers model in memory, for libraries that take one."""

from __future__ import annotations

from typing import Any

from nas._quiet import quiet
from nas.backends.huggingface._config import to_config
from nas.backends.huggingface._export import exported_state
from nas.chain import DecoderChain


def transformers_model(chain: DecoderChain) -> Any:
    """A `NasForCausalLM` in eval mode with the chain's weights, number format and device.

    It computes the logits that the exported folder would. On a CPU the weights are the chain's own,
    not a copy: do not train it.
    """
    from nas.backends.huggingface.remote.modeling_nas import NasForCausalLM

    weight = chain.norm.weight
    dtype = str(weight.dtype).removeprefix("torch.")
    config = to_config(chain.shape, chain.architecture, dtype=dtype, pad_token_id=None)
    with quiet():
        model = NasForCausalLM.from_pretrained(
            None, config=config, state_dict=exported_state(chain), dtype=weight.dtype
        )
    return model.to(weight.device).eval().requires_grad_(False)
