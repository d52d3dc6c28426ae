"""Greedy generation through the key-value cache."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.chain._decoder import DecoderChain


@torch.no_grad()
def greedy_tokens(
    chain: DecoderChain, ids: Tensor, tokens: int, attention_mask: Tensor | None = None
) -> Tensor:
    """The `tokens` most likely continuations [batch, tokens] of ids [batch, prompt].

    `attention_mask` [batch, prompt] is 0 where a prompt is padded on its left. Generation does not
    stop at an end-of-text token.
    """
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask
    past, chosen = chain.empty_cache(len(ids)), []
    for _ in range(tokens):
        logits, past = chain.forward_cached(ids, mask, past)
        ids = logits[:, -1].argmax(-1, keepdim=True)
        mask = torch.cat((mask, torch.ones_like(ids)), dim=1)
        chosen.append(ids)
    return torch.cat(chosen, dim=1) if chosen else ids[:, :0]
