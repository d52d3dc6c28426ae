"""Greedy generation through the cache, and agreement of two generations."""

from __future__ import annotations

import torch

from nas.chain import greedy_tokens
from nas.evaluation import compare_tokens, greedy_agreement
from nas.ir import Architecture
from tests.chains import tiny_chain, tiny_ids


def test_cache_generates_what_the_whole_text_gives() -> None:
    chain, ids = tiny_chain(), tiny_ids(2, 5)
    whole = ids
    for _ in range(8):
        whole = torch.cat((whole, chain(whole)[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert torch.equal(greedy_tokens(chain, ids, 8), whole[:, 5:])
    assert greedy_tokens(chain, ids, 0).shape == (2, 0)


def test_left_padding_changes_nothing() -> None:
    chain, ids = tiny_chain(), tiny_ids(1, 5)
    padded = torch.cat((torch.zeros(1, 3, dtype=torch.long), ids), dim=1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    assert torch.equal(greedy_tokens(chain, padded, 8, mask), greedy_tokens(chain, ids, 8))


def test_agreement_counts_up_to_the_first_difference() -> None:
    expected = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    found = torch.tensor([[1, 2, 3, 4], [1, 0, 3, 4], [0, 0, 0, 0]])
    agreement = compare_tokens(expected, found)
    assert agreement.lengths == (4, 1, 0)
    assert agreement.mean_length == 5 / 3
    assert abs(agreement.share - 7 / 12) < 1e-6
    assert agreement.tokens == 4


def test_a_model_agrees_with_itself_and_not_with_another() -> None:
    teacher, prompts = tiny_chain(architecture=Architecture()), tiny_ids(4, 6)
    assert greedy_agreement(teacher, teacher, prompts, 10).lengths == (10,) * 4
    assert greedy_agreement(teacher, tiny_chain(seed=9), prompts, 10).share < 1
