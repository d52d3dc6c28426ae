"""The backward pass of short causal attention, against torch's own in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nas.blocks.grouped_query_attention.attention import causal_attention, pays


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_gradients_are_those_of_torch(heads: int, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(heads)
    sizes = [(2, n, 17, 8) for n in (heads, kv_heads, kv_heads)]
    wide = [torch.randn(size, generator=generator) for size in sizes]
    low = [x.bfloat16().requires_grad_() for x in wide]
    wide = [x.detach().float().requires_grad_() for x in low]
    assert pays(low[0])
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
    assert pays(query)
    with torch.no_grad():
        assert not pays(query)
    assert not pays(query.float())
    assert not pays(query.detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not pays(query)
    assert not pays(query.expand(2048, 2, 64, 8))
