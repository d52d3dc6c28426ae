"""Norms with a backward pass of their own, against autograd in float64."""

from __future__ import annotations

import pytest
import torch

from nas.blocks._norm import RMSNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_frozen_norm_in_a_lower_format(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(2, 5, 24, generator=generator) for _ in range(2))
    norm = RMSNorm(24, 1e-5)
    with torch.no_grad():
        norm.weight.copy_(1 + 0.3 * torch.randn(24, generator=generator))
    norm = norm.to(dtype).requires_grad_(False)
    with torch.no_grad():
        expected = norm(x)
    leaf = x.clone().requires_grad_()
    found = norm(leaf)
    assert found.dtype == dtype
    if dtype != torch.float32:  # there the trained norm sums in another order
        assert torch.equal(found, expected)
    (gradient,) = torch.autograd.grad(found, leaf, upstream.to(dtype))
    wide = x.double().requires_grad_()
    plain = norm.weight.double() * wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()
    (wanted,) = torch.autograd.grad(plain, wide, upstream.to(dtype).double())
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert gradient.dtype == torch.float32
    assert float((gradient - wanted).norm() / wanted.norm()) < tolerance
