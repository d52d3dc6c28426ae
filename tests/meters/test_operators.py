"""What a block runs, against figures worked out by hand for the tiny decoder (32 wide, 4 heads)."""

from __future__ import annotations

import pytest

from nas.config import TargetConfig
from nas.ir import BlockSpec, GatedFeedForward, GroupedQueryAttention, LinearMap, Phase, SlotKind
from nas.meters import Operator, Request, decoder_work
from tests.chains import tiny_shape

SHAPE = tiny_shape()


def work(request: Request, batch: int = 1, dtype: str = "float32") -> dict[Operator, int]:
    settings = {"batch": batch, "prompt_tokens": 16, "dtype": dtype, "meter": "roofline"}
    return decoder_work(TargetConfig.model_validate(settings), SHAPE, request)


def total(found: dict[Operator, int], kind: str) -> tuple[float, float]:
    """Operations and bytes of one class."""
    mine = [(operator, count) for operator, count in found.items() if operator.kind == kind]
    return (
        sum(count * operator.flops for operator, count in mine),
        sum(count * operator.bytes_moved for operator, count in mine),
    )


def test_a_feed_forward_is_three_products_and_elementwise_work() -> None:
    found = work(Request("ffn", "prefill", GatedFeedForward(width=20)))
    assert {o.kind: n for o, n in found.items()} == {"matmul": 3, "elementwise": 2}
    flops, moved = total(found, "matmul")
    assert flops == 6 * 16 * 32 * 20
    # Weights; gate and up read the state, down writes it; 20 channels out, out and in.
    assert moved == 4 * (3 * 32 * 20 + 16 * (3 * 32 + 3 * 20))


def test_prefill_attention_sees_half_of_the_prompt() -> None:
    found = work(Request("attention", "prefill", GroupedQueryAttention(kv_heads=2)), batch=3)
    assert total(found, "matmul")[0] == 3 * 2 * 16 * 32 * (32 + 16 + 16 + 32)
    assert total(found, "attention")[0] == 3 * 4 * 16 * 8 * 32


def test_decode_attention_reads_the_cache_and_appends_to_it() -> None:
    found = work(Request("attention", "decode", GroupedQueryAttention(kv_heads=1)))
    flops, moved = total(found, "attention")
    assert flops == 4 * 17 * 32
    inner = 32 + 8 + 8 + 32
    assert moved == 4 * ((16 + 2) * 2 * 8 + inner)


def test_half_precision_moves_half_the_bytes() -> None:
    request = Request("ffn", "decode", LinearMap())
    whole, half = work(request), work(request, dtype="float16")
    assert total(half, "matmul") == (total(whole, "matmul")[0], total(whole, "matmul")[1] / 2)


def test_embedding_and_head_stand_apart() -> None:
    assert total(work(Request("embed", "prefill")), "embedding") == (0, 4 * 2 * 16 * 32)
    flops, moved = total(work(Request("head", "decode"), batch=2), "head")
    assert flops == 2 * 2 * 264 * 32
    assert moved == 4 * (264 * 32 + 2 * (32 + 264))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(
    ("slot", "spec"),
    [
        ("ffn", GatedFeedForward(width=48)),
        ("attention", GroupedQueryAttention(kv_heads=2)),
        ("attention", GroupedQueryAttention(kv_heads=1, query_heads=2)),
        ("attention", LinearMap()),
    ],
)
def test_operations_add_up_to_those_of_the_block(
    slot: SlotKind, spec: BlockSpec, phase: Phase
) -> None:
    from nas.blocks import KINDS

    tokens, seen = (16, 8) if phase == "prefill" else (1, 17)
    found = work(Request(slot, phase, spec), batch=2)
    summed = sum(count * operator.flops for operator, count in found.items())
    assert summed == pytest.approx(2 * KINDS[spec.kind].flops(SHAPE, slot, spec, tokens, seen))
