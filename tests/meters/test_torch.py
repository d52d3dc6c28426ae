"""What is particular to the meter `torch`: what it runs is what a network runs."""

from __future__ import annotations

import pytest
import torch

from nas.config import TargetConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import EncoderShape, GatedFeedForward, GroupedQueryAttention, LinearMap
from nas.meters import Request, TorchMeter, create_meter, interleaved, requests_for
from nas.meters._feeds import Feeds
from nas.meters._torch import _Parts
from tests.chains import tiny_shape
from tests.encoders import encoder_shape

ATTENTION = GroupedQueryAttention(kv_heads=2)


def meter(**settings: object) -> TorchMeter:
    config = {"meter": "torch", "prompt_tokens": 6, "repeats": 2, "threads": 1, **settings}
    found = create_meter(TargetConfig.model_validate(config), tiny_shape())
    assert isinstance(found, TorchMeter)
    return found


def _run(request: Request, found: TorchMeter, **changed: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.inference_mode():
        return _Parts(found).step(request, 1, {**_feed(request, found), **changed})()


def _feed(request: Request, found: TorchMeter) -> dict[str, torch.Tensor]:
    arrays = Feeds(found.config, found.shape).of(request, 1)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_a_prompt_is_causal() -> None:
    request, found = Request("attention", "prefill", ATTENTION), meter()
    state = _feed(request, found)["state"]
    other = state.clone()
    other[:, -1] += 1
    first, second = (_run(request, found, state=s) for s in (state, other))
    torch.testing.assert_close(first[:, :-1], second[:, :-1], atol=1e-6, rtol=0)
    assert not torch.allclose(first[:, -1], second[:, -1])


def test_a_token_sees_all_that_is_cached() -> None:
    request, found = Request("attention", "decode", ATTENTION), meter()
    value = _feed(request, found)["past_key_values.0.value"]
    assert value.shape[2] == 6
    outputs = [_run(request, found)]
    for k in range(6):
        changed = value.clone()
        changed[:, :, k] += 1
        outputs.append(_run(request, found, **{"past_key_values.0.value": changed}))
    assert outputs[0].shape == (1, 1, 32)
    assert len({round(float(output.double().sum()), 9) for output in outputs}) == 7


def test_all_parts_of_an_encoder_run() -> None:
    shape: EncoderShape = encoder_shape()
    found = TorchMeter(TargetConfig(meter="torch", prompt_tokens=5, repeats=1, threads=1), shape)
    latencies = found.measure(requests_for(shape, [], ("prefill",)))
    assert all(latency.median_ms >= 0 for latency in latencies)
    assert {latency.conditions.runtime for latency in latencies} == {"torch"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_are_run_in_sixteen_bits(dtype: str) -> None:
    found = meter(dtype=dtype)
    requests = [Request("ffn", "prefill", GatedFeedForward(width=16)), Request("head", "decode")]
    assert {latency.conditions.dtype for latency in found.measure(requests)} == {dtype}
    stack = _Parts(found)._stack(requests[0], 1)
    assert {p.dtype for p in stack[0].parameters()} == {getattr(torch, dtype)}


def test_threads_and_random_numbers_are_left_as_they_were() -> None:
    before, state = torch.get_num_threads(), torch.get_rng_state()
    found = meter(threads=before + 1)
    with found.runs([Request("ffn", "prefill", LinearMap())]) as runs:
        assert torch.get_num_threads() == before + 1
        interleaved(runs, 1)
    assert torch.get_num_threads() == before
    assert torch.equal(state, torch.get_rng_state())


def test_a_gpu_that_is_not_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CapabilityError, match=r"torch sees no GPU here; install a build of torch"):
        meter(hardware="rtx4090")
    with pytest.raises(ConfigError, match="measures the machine at hand"):
        meter(hardware="x86-avx512-amx")


@pytest.mark.gpu
def test_times_on_a_gpu_are_between_events() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    found = meter(hardware="rtx4090", dtype="float16")
    requests = requests_for(found.shape, [], ("prefill", "decode"))
    latencies = found.measure(requests)
    assert {latency.conditions.runtime for latency in latencies} == {"torch-cuda"}
    assert all(latency.median_ms >= 0 for latency in latencies)
    assert sum(latency.median_ms for latency in latencies) > 0
