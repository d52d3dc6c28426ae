"""Closed forms behind a LayerNorm, on patches: as of other transformers, and what sizes count."""

from __future__ import annotations

import pytest
import torch

from nas.blocks import KINDS, Block, Built, SlotData
from nas.blocks._norm import LayerNorm
from nas.ir import Architecture, FeedForward, GroupedQueryAttention, LinearMap, Skip, Slot
from nas.sensitivity import MixedNetwork, Realiser, expand
from tests.pictures import pictures
from tests.vits import PLACES, SIDE, tiny_vit, vit_shape


@torch.no_grad()
def _data(kind: str, samples: int = 40) -> SlotData:
    chain = tiny_vit(architecture=Architecture())
    batch = pictures(samples, side=SIDE)
    k = 2 if kind == "attention" else 3
    slot, context = chain.slot(k), chain.context(batch)
    state = chain.run(chain.embed_tokens(batch), context, stop=k)
    x = slot.normed(state)
    y = chain.teacher_branch(k)(x, context)
    return SlotData(
        chain.shape, kind, chain.teacher_branch(k), x, y, context, held_out=8, ridge=1e-6
    )


def _one(data: SlotData, spec: object) -> Built:
    (built,) = KINDS[spec.kind].initialise(data, (spec,))  # type: ignore[attr-defined]
    return built


def test_a_picture_is_one_token() -> None:
    data = _data("ffn")
    assert data.x.shape[1] == PLACES
    assert data.tokens_a_sample == 1


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
    for slot, specs in (
        ("ffn", [FeedForward(width=w) for w in (40, 24, 8)]),
        ("attention", [GroupedQueryAttention(kv_heads=n, query_heads=n) for n in (3, 2, 1)]),
    ):
        built = KINDS[specs[0].kind].initialise(_data(slot), tuple(specs))
        errors = [b.error for b in built]
        assert errors == sorted(errors)
        assert all(b.error < b.sliced_error for b in built)
        assert errors[-1] < 1


def test_a_linear_block_is_the_best_affine_map() -> None:
    data = _data("ffn")
    block = _one(data, LinearMap()).block
    fitted = slice(0, len(data.x) - 8)
    x, y = data.x[fitted].flatten(0, 1).double(), data.y[fitted].flatten(0, 1).double()
    rows = torch.cat((x, torch.ones(len(x), 1, dtype=torch.float64)), 1)
    expected = rows @ torch.linalg.lstsq(rows, y).solution
    assert block is not None
    with torch.no_grad():
        found = block(data.x[fitted], data.context).flatten(0, 1).double()
    least, lost = (float((m - y).pow(2).sum()) for m in (expected, found))
    assert least <= lost < 1.005 * least


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"classes": 0},
        {"qkv_bias": False},
        {"prefix_tokens": 2, "pooling": "both"},
        {"prefix_tokens": 0, "pooling": "mean"},
    ],
)
def test_sizes_are_counted(changes: dict[str, object]) -> None:
    shape = vit_shape(**changes)
    for kind, spec in (
        ("ffn", FeedForward(width=20)),
        ("attention", GroupedQueryAttention(kv_heads=2, query_heads=2)),
    ):
        module = KINDS[spec.kind].module(shape, kind, spec)
        assert module is not None
        counted = KINDS[spec.kind].parameters(shape, kind, spec)  # type: ignore[arg-type]
        assert counted == sum(p.numel() for p in module.parameters())
    chain = tiny_vit(shape, Architecture())
    outside = sum(p.numel() for n, p in chain.named_parameters() if not n.startswith("slots."))
    assert shape.outside_parameters == outside
    assert shape.norm_parameters == sum(p.numel() for p in chain.slots[0].norm.parameters())  # type: ignore[union-attr]


def test_the_norm_keeps_its_precision_in_lower_formats() -> None:
    """A state in float32 is not rounded before it is normed."""
    norm = LayerNorm(32, 1e-6)
    state = 1000 + torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    exact = norm(state)
    low = norm.bfloat16()(state)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("classes", [5, 0])
def test_small_swaps_cost_what_the_expansion_says(classes: int) -> None:
    """Scores by one backward pass against networks that are run: of classes, and of embeddings."""
    teacher = tiny_vit(vit_shape(classes=classes), Architecture())

    def load(slot: Slot, spec: object) -> Block | None:
        import copy

        if isinstance(spec, Skip):
            return None
        k = teacher.slot_ids.index(slot)
        block = copy.deepcopy(teacher.teacher_branch(k))
        weight = block.output_layer.weight
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(k))
        weight += 0.005 * noise
        return block

    network, batch = MixedNetwork(teacher, load), pictures(6, side=SIDE)
    swaps = {k: [LinearMap()] for k in range(8)}
    found = expand(network, Architecture(), swaps, batch, draws=400, seed=0)
    realise = Realiser(network, batch)
    assert float(realise(Architecture()).abs().max()) < 1e-6  # a few roundings of a float32 near 1
    for i, name in enumerate(found.names):
        swapped = Architecture(choices={name.split("/")[0]: LinearMap()})
        assert found.single()[:, i].mean() == pytest.approx(float(realise(swapped).mean()), rel=0.3)
