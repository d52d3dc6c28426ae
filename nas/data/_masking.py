"""Masked tokens, for encoders that tell them."""

from __future__ import annotations

import torch
from torch import Tensor

_SHARE = 0.15
"""Of the tokens of a text, as BERT was trained (arXiv 1810.04805)."""


def mask_tokens(windows: Tensor, token: int, seed: int) -> Tensor:
    """`windows` [texts, tokens] with 15 % of each text's tokens, at least one, put to `token`.

    The tokens that open and close a text stay, and those that stay are as they were.
    """
    inside = windows.shape[1] - 2
    count = max(1, round(_SHARE * inside))
    order = torch.rand(len(windows), inside, generator=torch.Generator().manual_seed(seed))
    chosen = 1 + order.topk(count, dim=1).indices
    return windows.scatter(1, chosen, token)
