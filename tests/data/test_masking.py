"""Masked tokens: how many, where, and the same ones again."""

from __future__ import annotations

import torch

from nas.data import mask_tokens

WINDOWS = torch.arange(2, 2 + 50 * 22).reshape(50, 22)


def test_a_share_of_each_text_is_masked_between_its_ends() -> None:
    masked = mask_tokens(WINDOWS, 1, seed=0)
    changed = masked != WINDOWS
    assert changed.sum(1).tolist() == [3] * 50
    assert bool((masked[changed] == 1).all())
    assert not bool(changed[:, [0, -1]].any())
    assert bool(changed[:, 1:-1].any(0).all())


def test_the_seed_decides() -> None:
    assert torch.equal(mask_tokens(WINDOWS, 1, seed=0), mask_tokens(WINDOWS, 1, seed=0))
    assert not torch.equal(mask_tokens(WINDOWS, 1, seed=0), mask_tokens(WINDOWS, 1, seed=1))


def test_a_text_of_one_token_loses_it() -> None:
    assert mask_tokens(WINDOWS[:, :3], 1, seed=0)[:, 1].tolist() == [1] * 50
