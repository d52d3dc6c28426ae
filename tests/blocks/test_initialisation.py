"""Closed forms against independent least squares, and what they promise."""

from __future__ import annotations

import pytest
import torch

from nas.blocks import KINDS, Built, SlotData
from nas.blocks._ridge import Moments, solve, solve_affine
from nas.blocks.gated_feed_forward.selection import contribution, elimination_order
from nas.ir import GatedFeedForward, GroupedQueryAttention, LinearMap, Skip
from tests.chains import Architecture, tiny_chain, tiny_ids, tiny_shape


def _data(kind: str, sequences: int = 40, **overrides: object) -> SlotData:
    shape = tiny_shape(**overrides)
    chain = tiny_chain(shape, Architecture())
    ids = tiny_ids(sequences, 12)
    k = 2 if kind == "attention" else 3
    slot = chain.slot(k)
    state = chain.run(chain.embed_tokens(ids), chain.context(ids), stop=k)
    x, context = slot.normed(state), chain.context(ids[:1])
    y = chain.teacher_branch(k)(x, context)
    return SlotData(shape, slot_kind(kind), chain.teacher_branch(k), x, y, context, 8, 1e-6)


def slot_kind(kind: str):  # type: ignore[no-untyped-def]
    return "attention" if kind == "attention" else "ffn"


def _one(data: SlotData, spec: object) -> Built:
    (built,) = KINDS[spec.kind].initialise(data, (spec,))  # type: ignore[attr-defined]
    return built


def test_ridge_is_the_solution_of_the_regularised_normal_equations() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 7, generator=generator, dtype=torch.float64)
    targets = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    weight = solve(features.T @ features, features.T @ targets, ridge=0.1)
    penalty = 0.1 * (features.T @ features).diagonal().mean()
    stacked = torch.cat((features, penalty.sqrt() * torch.eye(7, dtype=torch.float64)))
    padded = torch.cat((targets, torch.zeros(7, 3, dtype=torch.float64)))
    expected = torch.linalg.lstsq(stacked, padded).solution.T
    torch.testing.assert_close(weight, expected)


def test_an_affine_map_is_recovered_from_its_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=generator) + 3
    weight, bias = torch.randn(2, 5, generator=generator), torch.randn(2, generator=generator)
    moments = Moments.zeros(5, 2, x)
    for rows in x.split(64):
        moments.add(rows, rows @ weight.T + bias)
    found_weight, found_bias = solve_affine(moments, ridge=1e-8)
    torch.testing.assert_close(found_weight.float(), weight, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found_bias.float(), bias, atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize("bias", [False, True])
def test_every_channel_kept_is_the_teacher_itself(bias: bool) -> None:
    data = _data("ffn", ffn_bias=bias)
    built = _one(data, GatedFeedForward(width=48))
    assert built.sliced_error < 1e-4  # the rounding of the low-precision products
    assert built.error < 1e-4


@pytest.mark.parametrize("bias", [False, True])
def test_every_kv_head_kept_is_the_teacher_itself(bias: bool) -> None:
    data = _data("attention", qkv_bias=bias, output_bias=bias)
    built = _one(data, GroupedQueryAttention(kv_heads=2))
    assert built.sliced_error < 1e-4  # the rounding of the low-precision products
    assert built.error < 1e-4


def test_the_refit_beats_the_slice_on_text_it_has_not_seen() -> None:
    data = _data("ffn", sequences=120)
    for width in (40, 32, 16):
        built = _one(data, GatedFeedForward(width=width))
        assert built.error < built.sliced_error
    pooled = _one(_data("attention", sequences=120), GroupedQueryAttention(kv_heads=1))
    assert pooled.error < pooled.sliced_error


def test_wider_is_better_and_skip_loses_everything() -> None:
    data = _data("ffn", sequences=120)
    specs = tuple(GatedFeedForward(width=w) for w in (8, 24, 40))
    errors = [built.error for built in KINDS["gated_ffn"].initialise(data, specs)]
    assert errors == sorted(errors, reverse=True)
    assert _one(data, Skip()).error == 1.0


@pytest.mark.parametrize("kind", ["attention", "ffn"])
def test_a_linear_block_beats_doing_nothing(kind: str) -> None:
    built = _one(_data(kind, sequences=120), LinearMap())
    assert built.error < min(1.0, built.sliced_error)


def test_pooled_heads_are_the_mean_of_their_group() -> None:
    data = _data("attention", query_heads=4, kv_heads=4)
    built = _one(data, GroupedQueryAttention(kv_heads=2))
    teacher = data.teacher.k_proj.weight.reshape(2, 2, 8, 32)  # type: ignore[union-attr]
    expected = (teacher[:, 0] + teacher[:, 1]) / 2
    found = built.block.k_proj.weight.reshape(2, 8, 32)  # type: ignore[union-attr]
    torch.testing.assert_close(found, expected)


def test_elimination_is_nested_and_no_worse_than_contribution() -> None:
    data = _data("ffn", sequences=120)
    teacher = data.teacher
    moments = Moments.zeros(48, 32, data.x)
    for x, y in data.fitted():
        moments.add(teacher.intermediate(x), y)  # type: ignore[operator]
    down = teacher.down_proj.weight  # type: ignore[union-attr]
    kept = elimination_order(moments.gram, down, [40, 24, 8], 1e-6)  # type: ignore[arg-type]
    assert set(kept[8].tolist()) < set(kept[24].tolist()) < set(kept[40].tolist())
    by_share = contribution(moments.gram, down).argsort(descending=True)[:24]  # type: ignore[arg-type]
    assert _lost(moments, kept[24]) <= _lost(moments, by_share)


def _lost(moments: Moments, channels: torch.Tensor) -> float:
    """Residual of the best fit on `channels`, up to a constant."""
    gram = moments.gram[channels][:, channels].double()
    cross = moments.cross[channels].double()
    return -float((cross * torch.linalg.solve(gram, cross)).sum())
