"""Causal attention of our own, against torch's in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nas.blocks.grouped_query_attention.attention import (
    _backward_pays,
    _by_rows,
    causal_attention,
)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_gradients_are_those_of_torch(heads: int, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(heads)
    sizes = [(2, n, 17, 8) for n in (heads, kv_heads, kv_heads)]
    wide = [torch.randn(size, generator=generator) for size in sizes]
    low = [x.bfloat16().requires_grad_() for x in wide]
    wide = [x.detach().float().requires_grad_() for x in low]
    assert _backward_pays(low[0])
    found = causal_attention(*low)
    expected = F.scaled_dot_product_attention(*wide, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=1e-2)
    for seed in (1, 2):  # a graph is used more than once
        upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed))
        gradients = torch.autograd.grad(found, low, upstream.bfloat16(), retain_graph=True)
        wanted = torch.autograd.grad(expected, wide, upstream, retain_graph=True)
        for gradient, true in zip(gradients, wanted, strict=True):
            assert float((gradient.float() - true).norm() / true.norm()) < 2e-2


def test_what_it_is_for() -> None:
    query = torch.zeros(1, 2, 64, 8, dtype=torch.bfloat16, requires_grad=True)
    assert _backward_pays(query)
    assert not _backward_pays(query.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not _backward_pays(query)
    assert not _backward_pays(query.expand(2048, 2, 64, 8))


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_attention_by_rows_is_torch_s(tokens: int, heads: int, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    sizes = [(2, tokens, n, 8) for n in (heads, kv_heads, kv_heads)]
    low = [torch.randn(s, generator=generator).bfloat16().transpose(1, 2) for s in sizes]
    wide = [x.float() for x in low]
    expected = F.scaled_dot_product_attention(*wide, is_causal=True, enable_gqa=True)
    found = _by_rows(*low)
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=1e-2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(_by_rows(*low), found)
