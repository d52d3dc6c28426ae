"""Execution providers: what a session is opened with, and what is said where one is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.backends.onnx import OnnxArtifact, export_onnx
from nas.backends.onnxruntime import OnnxDecoder, Runner, open_session
from nas.backends.providers import (
    PROVIDERS,
    covering,
    input_bounds,
    provider_chain,
    read_providers,
    require_provider,
    write_providers,
)
from nas.backends.tensorrt import EngineShapes
from nas.config import TargetConfig, validate_config
from nas.errors import ArtifactError, CapabilityError, ConfigError, PassError
from nas.meters import create_meter
from tests.chains import tiny_chain, tiny_shape

ort = pytest.importorskip("onnxruntime")
SHAPES = EngineShapes(batch=2, prompt_tokens=8, max_tokens=32)
GPU = [name for name in PROVIDERS if name != "cpu"]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> OnnxArtifact:
    return export_onnx(tiny_chain(), tmp_path_factory.mktemp("onnx"))


def _bounds(path: Path) -> Any:
    return covering([input_bounds(path, SHAPES.ranges(phase)) for phase in ("decode", "prefill")])


def test_one_range_holds_prompts_and_single_tokens_and_is_tuned_for_these(
    artifact: OnnxArtifact,
) -> None:
    bounds = _bounds(artifact.path)
    assert bounds["input_ids"] == [[1, 1], [2, 1], [2, 32]]
    assert bounds["attention_mask"] == [[1, 1], [2, 9], [2, 32]]
    layer, heads = next(iter(artifact.kv_heads.items()))
    dim = artifact.head_dim
    past = [[1, heads, 0, dim], [2, heads, 8, dim], [2, heads, 31, dim]]
    assert bounds[f"past_key_values.{layer}.key"] == past
    session = open_session(artifact.path, 1)
    assert set(bounds) == {node.name for node in session.get_inputs()}


def test_a_dimension_without_a_range_is_refused(artifact: OnnxArtifact) -> None:
    with pytest.raises(PassError, match=r"no range for (past|total)_sequence_length"):
        input_bounds(artifact.path, {"batch": (1, 1, 1), "sequence_length": (1, 1, 1)})


@pytest.mark.parametrize(("name", "prefix"), [("tensorrt", "trt"), ("tensorrt_rtx", "nv")])
def test_tensorrt_is_given_every_range_and_a_place_for_its_engines(
    artifact: OnnxArtifact, tmp_path: Path, name: Any, prefix: str
) -> None:
    write_providers(tmp_path, _bounds(artifact.path))
    (first, options), *rest = read_providers(tmp_path, name)
    assert first == PROVIDERS[name]
    assert rest[-1] == ("CPUExecutionProvider", {})
    ids = {which: options[f"{prefix}_profile_{which}_shapes"] for which in ("min", "opt", "max")}
    dims = {k: dict(entry.split(":") for entry in v.split(",")) for k, v in ids.items()}
    assert [dims[k]["input_ids"] for k in ("min", "opt", "max")] == ["1x1", "2x1", "2x32"]
    assert dims["min"].keys() == dims["max"].keys() == _bounds(artifact.path).keys()
    places = [value for key, value in options.items() if key.endswith("_cache_path")]
    assert places
    assert set(places) == {str(tmp_path / "engine_cache")}


def test_the_list_is_what_onnx_runtime_takes(artifact: OnnxArtifact, tmp_path: Path) -> None:
    """All of each list that this build has."""
    write_providers(tmp_path, _bounds(artifact.path))
    for name in PROVIDERS:
        chain = read_providers(tmp_path, name)
        assert all(isinstance(v, str) for _, options in chain for v in options.values())
        here = [entry for entry in chain if entry[0] in ort.get_available_providers()]
        session = ort.InferenceSession(str(artifact.path), providers=here)
        assert session.get_providers()[-1] == "CPUExecutionProvider"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cuda": [1]}', '{"cuda": {"a": 1}}'])
def test_a_torn_list_is_an_artifact_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "providers.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"providers\.json.*export it again"):
        read_providers(tmp_path, "cuda")


def test_a_full_disk_leaves_the_earlier_list(
    artifact: OnnxArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_providers(tmp_path, _bounds(artifact.path))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PassError, match="No space left on device"):
        write_providers(tmp_path, {"input_ids": [[1], [1], [1]]})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["providers.json"]


@pytest.mark.parametrize("provider", GPU)
def test_a_missing_provider_is_a_clear_error_everywhere(
    provider: Any, artifact: OnnxArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    message = rf"has no {PROVIDERS[provider]}.* here, only CPUExecutionProvider; for it: .*install"
    with pytest.raises(CapabilityError, match=message):
        require_provider(provider)
    with pytest.raises(CapabilityError, match=message):
        OnnxDecoder(artifact.path, 1, provider_chain(provider))
    config = TargetConfig(hardware="rtx4090", provider=provider)
    with pytest.raises(CapabilityError, match=message):
        create_meter(config, tiny_shape())


def test_a_provider_is_for_the_meter_that_uses_it() -> None:
    settings = {
        "name": "p",
        "teacher": {"source": "x"},
        "budgets": {"params_m": 1},
        "target": {"provider": "cuda", "meter": "roofline", "hardware": "rtx4090"},
    }
    with pytest.raises(ConfigError, match=r"target\.provider: the meter onnxruntime uses it"):
        validate_config(settings, "test")
    settings["target"] = {"hardware": "rtx4090"}
    with pytest.raises(ConfigError, match="measures the machine at hand"):
        create_meter(validate_config(settings, "test").target, tiny_shape())


class _Binding:
    """`IOBinding` that remembers the device, over a session on the CPU."""

    def __init__(self, session: Any) -> None:
        self._inner = session.io_binding()
        self.devices: set[str] = set()
        self.synchronised = False

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self._inner.bind_ortvalue_input(name, value)

    def bind_output(self, name: str, device: str) -> None:
        self.devices.add(device)
        self._inner.bind_output(name, "cpu")

    def synchronize_outputs(self) -> None:
        self.synchronised = True

    def get_outputs(self) -> Any:
        return self._inner.get_outputs()


class _Session:
    def __init__(self, session: Any) -> None:
        self._session, self.bindings = session, []

    def get_outputs(self) -> Any:
        return self._session.get_outputs()

    def io_binding(self) -> _Binding:
        self.bindings.append(_Binding(self._session))
        return self.bindings[-1]

    def run_with_iobinding(self, binding: _Binding) -> None:
        self._session.run_with_iobinding(binding._inner)


def test_on_a_gpu_outputs_stay_there_and_are_waited_for(artifact: OnnxArtifact) -> None:
    ids = np.arange(6, dtype=np.int64)[None]
    decoder = OnnxDecoder(artifact.path, 1)
    expected = decoder.prefill(ids)
    session = _Session(decoder._session)
    on_gpu = Runner(session, "cuda")
    feed = decoder._feed(ids, np.ones_like(ids), decoder._empty(1))
    outputs = on_gpu.run(feed)
    np.testing.assert_array_equal(outputs[0].numpy(), expected)
    (binding,) = session.bindings
    assert binding.devices == {"cuda"}
    assert binding.synchronised


@pytest.mark.gpu
@pytest.mark.parametrize("provider", GPU)
def test_a_decoder_says_the_same_on_a_gpu(artifact: OnnxArtifact, provider: Any) -> None:
    if PROVIDERS[provider] not in ort.get_available_providers():
        pytest.skip(f"no {PROVIDERS[provider]} here")
    bounds = _bounds(artifact.path)
    on_gpu = OnnxDecoder(artifact.path, 1, provider_chain(provider, bounds))
    ids = np.arange(12, dtype=np.int64).reshape(2, 6)
    cpu = OnnxDecoder(artifact.path, 1)
    np.testing.assert_allclose(on_gpu.prefill(ids), cpu.prefill(ids), atol=1e-3)
    np.testing.assert_array_equal(on_gpu.greedy(ids, 8), cpu.greedy(ids, 8))
    assert on_gpu.conditions("decode", 2, 6).runtime.startswith("onnxruntime-")
