"""The roofline against figures worked out by hand."""

from __future__ import annotations

import pytest

from hardware_profiles import HardwareProfile
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import DecoderShape, GatedFeedForward, GroupedQueryAttention
from nas.meters import Request, RooflineMeter
from tests.chains import tiny_shape

# 1 operation a nanosecond at full efficiency and 1 byte a nanosecond; launches are free.
PLAIN = {
    "name": "plain",
    "description": "a device for arithmetic",
    "vendor": "none",
    "kind": "gpu",
    "memory_gib": 1,
    "bandwidth_gb_per_s": 1,
    "peak_tflops": {"float32": 0.001},
    "efficiency": 1.0,
    "launch_overhead_us": 0,
    "width_multiple": 1,
    "sources": {},
}


def forecast(
    request: Request, shape: DecoderShape | None = None, batch: int = 1, **profile: object
) -> float:
    config = TargetConfig(meter="roofline", prompt_tokens=16, batch=batch)
    device = HardwareProfile.model_validate({**PLAIN, **profile})
    (latency,) = RooflineMeter(config, shape or tiny_shape(), device).measure([request])
    assert latency.source == "roofline"
    return 1e6 * latency.median_ms


def test_prefill_of_a_feed_forward_is_bound_by_operations() -> None:
    request = Request("ffn", "prefill", GatedFeedForward(width=20))
    assert forecast(request) == pytest.approx(6 * 16 * 32 * 20)


def test_half_the_efficiency_doubles_it() -> None:
    request = Request("ffn", "prefill", GatedFeedForward(width=20))
    assert forecast(request, efficiency=0.5) == pytest.approx(2 * forecast(request))


def test_decode_of_a_feed_forward_is_bound_by_its_weights() -> None:
    request = Request("ffn", "decode", GatedFeedForward(width=20))
    weights, norm, state = 3 * 32 * 20, 32, 2 * 32
    assert forecast(request) == pytest.approx(4 * (weights + norm + state))


def test_decode_of_attention_reads_the_cache_and_appends_to_it() -> None:
    request = Request("attention", "decode", GroupedQueryAttention(kv_heads=1))
    weights, norm, state = 2 * 32 * (32 + 8), 32, 2 * 32
    cache = (16 + 2) * 2 * 8
    assert forecast(request) == pytest.approx(4 * (weights + norm + state + cache))


def test_the_cache_grows_with_the_batch_and_the_weights_do_not() -> None:
    request = Request("attention", "decode", GroupedQueryAttention(kv_heads=2))
    one, three = (forecast(request, batch=n, peak_tflops={"float32": 9}) for n in (1, 3))
    assert three - one == pytest.approx(2 * 4 * (2 * 32 + (16 + 2) * 2 * 2 * 8))


FAST = {"float32": 0.001, "float16": 0.004}


def test_products_of_halves_take_their_own_peak() -> None:
    request = Request("ffn", "prefill", GatedFeedForward(width=20, precision="float16"))
    products = 6 * 16 * 32 * 20
    assert forecast(request, peak_tflops=FAST, bandwidth_gb_per_s=9) == pytest.approx(products / 4)


def test_attention_itself_stays_in_the_target_format() -> None:
    """Queries of 16 tokens see 8 keys on average: two products of 4 heads of 8 channels."""
    request = Request(
        "attention", "prefill", GroupedQueryAttention(kv_heads=1, precision="float16")
    )
    products, scores = 2 * 16 * (2 * 32 * (32 + 8)), 4 * 16 * 8 * 4 * 8
    assert forecast(request, peak_tflops=FAST, bandwidth_gb_per_s=99) == pytest.approx(
        products / 4 + scores
    )


def test_halves_are_half_of_the_weights_and_casts_pass_the_state_once_more() -> None:
    request = Request("ffn", "decode", GatedFeedForward(width=20, precision="float16"))
    weights, norm, state = 3 * 32 * 20, 32, 2 * 32
    moved = 2 * weights + 4 * (norm + state) + 2 * 2 * state
    assert forecast(request, peak_tflops=FAST) == pytest.approx(moved)
    launched = forecast(request, peak_tflops=FAST, launch_overhead_us=1)
    assert launched - forecast(request, peak_tflops=FAST) == pytest.approx(8000)


def test_halves_without_a_peak_are_refused() -> None:
    request = Request("ffn", "decode", GatedFeedForward(width=20, precision="float16"))
    with pytest.raises(ConfigError, match="peak_tflops has no float16"):
        forecast(request)


def test_the_head_multiplies_every_position() -> None:
    assert forecast(Request("head", "prefill")) == pytest.approx(2 * 16 * 32 * 264)


def test_launches_add_up() -> None:
    request = Request("embed", "decode")
    assert forecast(request, launch_overhead_us=1) - forecast(request) == pytest.approx(4000)


def test_a_dtype_without_a_peak_is_refused() -> None:
    config = TargetConfig(meter="roofline", dtype="bfloat16")
    with pytest.raises(ConfigError, match="peak_tflops has no bfloat16"):
        RooflineMeter(config, tiny_shape(), HardwareProfile.model_validate(PLAIN))
