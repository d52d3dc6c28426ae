"""What is particular to the measured meter."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import GatedFeedForward, LinearMap
from nas.meters import OnnxRuntimeMeter, Request, create_meter
from nas.meters import _stacks as module
from nas.meters._caches import CacheEvictor, last_level_cache_bytes
from tests.chains import tiny_chain, tiny_shape

NARROW, WIDE = GatedFeedForward(width=8), GatedFeedForward(width=4096)


def meter(**settings: object) -> OnnxRuntimeMeter:
    config = TargetConfig.model_validate({"prompt_tokens": 64, "repeats": 3, **settings})
    return OnnxRuntimeMeter(config, tiny_shape(hidden_size=64))


def test_a_wider_block_takes_longer() -> None:
    asked = [Request("ffn", "prefill", NARROW), Request("ffn", "prefill", WIDE)]
    narrow, wide = meter(threads=1).measure(asked)
    assert wide.median_ms > 2 * narrow.median_ms
    assert len(wide.samples_ms) == 3
    assert wide.source == "slope"
    assert wide.conditions.runtime == "onnxruntime"


def test_the_slope_takes_out_what_a_run_costs_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(self: OnnxRuntimeMeter, requests: object, folder: Path) -> dict[str, object]:
        return {f"linear x{n} prefill": lambda n=n: 7.0 + 0.25 * n for n in (4, 8)}

    monkeypatch.setattr(OnnxRuntimeMeter, "_runs", runs)
    (latency,) = meter().measure([Request("ffn", "prefill", LinearMap())])
    assert latency.samples_ms == (0.25, 0.25, 0.25)


def test_a_block_that_fits_both_slot_kinds_is_measured_once() -> None:
    asked = [Request(kind, "decode", LinearMap()) for kind in ("attention", "ffn")]
    first, second = meter(threads=1).measure(asked)
    assert first == second


def test_small_blocks_stack_higher_for_decode() -> None:
    request = Request("ffn", "decode", NARROW)
    assert meter()._stacks(request) == (module._MOST_COPIES, 2 * module._MOST_COPIES)
    assert meter()._stacks(Request("ffn", "prefill", NARROW)) == (4, 8)
    assert meter()._stacks(Request("head", "decode")) == (1,)


def test_it_measures_this_machine_only() -> None:
    with pytest.raises(ConfigError, match=r"set target\.meter to roofline or table"):
        create_meter(TargetConfig(hardware="h200"), tiny_shape())


def test_conditions_are_those_of_an_exported_decoder(tmp_path: Path) -> None:
    from nas.backends.onnx import export_onnx
    from nas.backends.onnxruntime import OnnxDecoder

    artifact = export_onnx(tiny_chain(), tmp_path)
    decoder = OnnxDecoder(artifact.path, threads=1)
    for phase in ("prefill", "decode"):
        assert decoder.conditions(phase, 1, 64) == meter(threads=1).conditions(phase)


def test_a_dtype_that_the_cpu_does_not_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="not bfloat16"):
        create_meter(TargetConfig(dtype="bfloat16"), tiny_shape())


def test_cache_size_is_the_largest_that_the_system_tells(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "2048K", "105M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert last_level_cache_bytes(tmp_path) == 105 * 2**20
    assert last_level_cache_bytes(tmp_path / "nothing") == 64 * 2**20


def test_the_evictor_reads_twice_the_cache_before_each_run() -> None:
    evictor = CacheEvictor(cache_bytes=4096)
    assert evictor._buffer.nbytes == 2 * 4096
    assert evictor.before(lambda: 3.0)() == 3.0
