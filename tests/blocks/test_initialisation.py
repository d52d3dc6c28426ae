"""Closed forms against independent least squares, and what they promise."""

from __future__ import annotations

import pytest
import torch

from nas.blocks import KINDS, Built, SlotData
from nas.blocks._channels import contribution, elimination_order
from nas.blocks._elimination import Elimination
from nas.blocks._ridge import Moments, solve, solve_affine
from nas.blocks.grouped_query_attention.selection import kept_heads
from nas.errors import ConfigError
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


def test_moments_of_bfloat16_features_lose_nothing_of_the_gram() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 40, generator=generator).bfloat16()
    targets = torch.randn(500, 8, generator=generator)
    moments = Moments.zeros(40, 8, targets)
    moments.add(features, targets)
    wide = features.double()
    torch.testing.assert_close(moments.gram, wide.T @ wide, rtol=1e-5, atol=1e-4)
    error = (moments.cross - wide.T @ targets.double()).norm()
    assert error < 0.005 * (wide.T @ targets.double()).norm()
    assert torch.get_float32_matmul_precision() == "highest"


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


@pytest.mark.parametrize("overrides", [{}, {"qkv_bias": True, "qk_norm": True}])
@pytest.mark.parametrize(("query_heads", "kv_heads"), [(4, 4), (4, 2), (2, 2), (2, 1), (1, 1)])
def test_fewer_heads_are_the_teachers_own(
    query_heads: int, kv_heads: int, overrides: dict[str, bool]
) -> None:
    data = _data("attention", sequences=120, query_heads=8, kv_heads=4, **overrides)
    spec = GroupedQueryAttention(query_heads=query_heads, kv_heads=kv_heads)
    built = _one(data, spec)
    assert built.block is not None
    assert built.error < built.sliced_error < 1
    teacher = data.teacher.q_proj.weight.unflatten(0, (8, -1))
    kept = built.block.q_proj.weight.unflatten(0, (query_heads, -1))
    found = [next(i for i in range(8) if torch.equal(teacher[i], head)) for head in kept]
    groups = [head // 2 for head in found]
    assert found == sorted(found)
    assert all(groups.count(g) == query_heads // kv_heads for g in groups)


def test_a_group_cannot_grow() -> None:
    with pytest.raises(ConfigError, match="4 query heads on 1 KV head"):
        _one(_data("attention"), GroupedQueryAttention(query_heads=4, kv_heads=1))


def test_the_heads_that_are_kept_are_those_that_the_others_replace_worst() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = tiny_shape(query_heads=4, kv_heads=2, head_dim=2, hidden_size=8)
    features = torch.randn(400, 8, generator=generator, dtype=torch.float64)
    features[:, 0:2] = features[:, 2:4]  # head 0 says what head 1 says
    features[:, 4:6] *= 0.01  # head 2 says next to nothing
    output = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    gram = features.T @ features
    halves = GroupedQueryAttention(kv_heads=2, query_heads=2)
    kept = kept_heads(shape, gram, output, halves, ridge=1e-9)
    assert kept[:, 0].tolist() in ([0, 3], [1, 3])
    one_group = GroupedQueryAttention(kv_heads=1, query_heads=2)
    kept = kept_heads(shape, gram, output, one_group, ridge=1e-9)
    lost = []
    for group in (slice(0, 4), slice(4, 8)):
        left = features[:, group]
        # columns of the first group are copies: only a driver by singular values is sure of that
        fit = left @ torch.linalg.lstsq(left, features @ output.T, driver="gelsd").solution
        lost.append(float((features @ output.T - fit).pow(2).sum()))
    assert kept.tolist() == ([[0, 1]] if lost[0] < lost[1] else [[2, 3]])


def test_the_price_of_an_elimination_is_what_the_refit_then_loses() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    features[:, 3] += features[:, 0]
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    targets, gram = features @ weight.T, features.T @ features
    elimination = Elimination.of_layer(gram, weight, ridge=1e-12)
    for leave in ([3, 5], [1]):
        price = elimination.cost(torch.tensor(leave))
        elimination.remove(torch.tensor(leave))
        left = features[:, elimination.alive]
        lost = targets - left @ torch.linalg.lstsq(left, targets).solution
        total = float(lost.pow(2).sum())
        targets = targets - lost
        assert price == pytest.approx(total, rel=1e-6)


def test_the_refit_beats_the_slice_on_text_it_has_not_seen() -> None:
    data = _data("ffn", sequences=120)
    for width in (40, 32, 16):
        built = _one(data, GatedFeedForward(width=width))
        assert built.error < built.sliced_error
        assert built.error == data.error(built.block)
    data = _data("attention", sequences=120)
    pooled = _one(data, GroupedQueryAttention(kv_heads=1))
    assert pooled.error < pooled.sliced_error
    assert pooled.error == data.error(pooled.block)


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
    for x, y, _ in data.fitted():
        moments.add(teacher.features(x.float(), data.context), y)  # type: ignore[operator]
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
