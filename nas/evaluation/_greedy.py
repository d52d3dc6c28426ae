"""Greedy generation through the key-value cache, and how long two models say the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas.chain import DecoderChain


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


@dataclass(frozen=True)
class Agreement:
    """Free-running greedy generation of a student against the teacher's.

    `lengths`: per prompt, tokens until the first difference (`tokens` where there is none).
    `share`: equal tokens over all positions, the ones after a difference included.
    """

    tokens: int
    lengths: tuple[int, ...]
    share: float

    @property
    def mean_length(self) -> float:
        return sum(self.lengths) / len(self.lengths)


def greedy_agreement(
    teacher: DecoderChain, student: DecoderChain, prompts: Tensor, tokens: int
) -> Agreement:
    """Continue prompts [n, P] by `tokens` tokens with each model alone and compare."""
    prompts = prompts.to(teacher.device)
    return compare_tokens(
        greedy_tokens(teacher, prompts, tokens), greedy_tokens(student, prompts, tokens)
    )


def compare_tokens(expected: Tensor, found: Tensor) -> Agreement:
    """Agreement of generated tokens [n, tokens]; generate the teacher's once for many students."""
    equal = (expected == found).long()
    lengths = equal.cumprod(dim=1).sum(dim=1)
    return Agreement(
        equal.shape[1], tuple(int(length) for length in lengths), float(equal.float().mean())
    )
