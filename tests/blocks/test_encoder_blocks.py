"""Closed forms behind a norm: weighted least squares, and what narrowing an encoder promises."""

from __future__ import annotations

import pytest
import torch

from nas.blocks import KINDS, Built, SlotData
from nas.blocks._ridge import Moments, solve_affine
from nas.ir import Architecture, FeedForward, GroupedQueryAttention, LinearMap
from tests.chains import tiny_ids
from tests.encoders import encoder_shape, tiny_encoder


@torch.no_grad()
def _data(kind: str, sequences: int = 40) -> SlotData:
    chain = tiny_encoder(architecture=Architecture())
    ids = tiny_ids(sequences, 12)
    k = 2 if kind == "attention" else 3
    slot, context = chain.slot(k), chain.context(ids)
    state = chain.run(chain.embed_tokens(ids), context, stop=k)
    x = slot.normed(state)
    y = chain.teacher_branch(k)(x, context)
    return SlotData(
        shape=chain.shape,
        slot_kind="attention" if kind == "attention" else "ffn",
        teacher=chain.teacher_branch(k),
        x=x,
        y=y,
        context=context,
        held_out=8,
        ridge=1e-6,
        emphasis=slot.emphasis(state + y),
        gain=slot.gain,
    )


def _one(data: SlotData, spec: object) -> Built:
    (built,) = KINDS[spec.kind].initialise(data, (spec,))  # type: ignore[attr-defined]
    return built


def test_weighted_moments_give_weighted_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 5, generator=generator, dtype=torch.float64) + 1
    targets = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    weights = torch.rand(200, 1, generator=generator, dtype=torch.float64) * 10
    moments = Moments.zeros(5, 3, targets)
    moments.add(features[:80], targets[:80], weights[:80])
    moments.add(features[80:], targets[80:], weights[80:])
    found, bias = solve_affine(moments, 1e-12)
    rows = torch.cat((features, torch.ones(200, 1, dtype=torch.float64)), 1) * weights.sqrt()
    expected = torch.linalg.lstsq(rows, targets * weights.sqrt()).solution
    torch.testing.assert_close(torch.cat((found, bias[:, None]), 1), expected.T)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("ffn", FeedForward(width=48)),
        ("attention", GroupedQueryAttention(kv_heads=4, query_heads=4)),
    ],
)
def test_all_of_the_teacher_is_the_teacher(kind: str, spec: object) -> None:
    assert _one(_data(kind), spec).error < 1e-4  # of bfloat16


def test_less_is_worse_and_the_refit_helps() -> None:
    data = _data("ffn")
    kind = KINDS["ffn"]
    built = kind.initialise(data, tuple(FeedForward(width=w) for w in (40, 24, 8)))
    errors = [b.error for b in built]
    assert errors == sorted(errors)
    assert all(b.error < b.sliced_error for b in built)
    assert errors[-1] < 1


def test_the_error_is_that_of_the_normed_state() -> None:
    data = _data("ffn")
    block = _one(data, FeedForward(width=8)).block
    assert block is not None
    block.requires_grad_(False)
    held = slice(len(data.x) - 8, None)
    difference = (block(data.x[held], data.context) - data.y[held]) * data.gain
    weight = data.emphasis[held]  # type: ignore[index]
    lost = (difference.pow(2) * weight).sum()
    power = ((data.y[held] * data.gain).pow(2) * weight).sum()
    assert data.error(block) == pytest.approx(float(lost / power), rel=0.02)  # bfloat16 on one side


def test_a_linear_block_is_the_best_affine_map() -> None:
    data = _data("ffn")
    block = _one(data, LinearMap()).block
    fitted = slice(0, len(data.x) - 8)
    x, y = data.x[fitted].flatten(0, 1).double(), data.y[fitted].flatten(0, 1).double()
    weight = data.emphasis[fitted].flatten(0, 1).double().sqrt()  # type: ignore[index]
    rows = torch.cat((x, torch.ones(len(x), 1, dtype=torch.float64)), 1) * weight
    expected = rows @ torch.linalg.lstsq(rows, y * weight).solution
    assert block is not None
    with torch.no_grad():
        found = block(data.x[fitted], data.context).flatten(0, 1).double() * weight
    least, lost = (float((m - y * weight).pow(2).sum()) for m in (expected, found))
    assert least <= lost < 1.005 * least


def test_sizes_are_counted() -> None:
    shape = encoder_shape()
    for kind, spec in (
        ("ffn", FeedForward(width=20)),
        ("attention", GroupedQueryAttention(kv_heads=2, query_heads=2)),
    ):
        module = KINDS[spec.kind].module(shape, kind, spec)
        assert module is not None
        counted = KINDS[spec.kind].parameters(shape, kind, spec)  # type: ignore[arg-type]
        assert counted == sum(p.numel() for p in module.parameters())
    chain = tiny_encoder(architecture=Architecture())
    outside = sum(p.numel() for n, p in chain.named_parameters() if n.startswith(chain.outside))
    assert shape.outside_parameters == outside
    assert shape.norm_parameters == sum(p.numel() for p in chain.slots[0].norm.parameters())  # type: ignore[union-attr]
