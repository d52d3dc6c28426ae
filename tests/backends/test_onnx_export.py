"""The exported decoder: same numbers as torch, right names, all lengths dynamic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from nas.backends.onnx import OnnxArtifact, check_onnx, export_onnx, write_genai_config
from nas.backends.onnxruntime import OnnxDecoder
from nas.chain import DecoderChain
from nas.errors import ArtifactError, CapabilityError, ConfigError, PassError
from nas.ir import Architecture, DecoderShape, Skip
from tests.chains import tiny_chain, tiny_shape

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPE = tiny_shape(rope=LLAMA3_ROPE)
VARIANTS = {
    "plain": SHAPE,
    "all options": tiny_shape(
        tied_embeddings=False,
        qkv_bias=True,
        output_bias=True,
        ffn_bias=True,
        qk_norm=True,
        head_dim=16,
        activation="gelu_pytorch_tanh",
        sliding_window=4,
    ),
}
ATTENTION_ONLY = Architecture(choices={slot.id: Skip() for slot in SHAPE.slots()[1:]})


def token_ids(batch: int, tokens: int, shape: DecoderShape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, shape.vocab_size, (batch, tokens), generator=generator)


def torch_greedy(chain: DecoderChain, ids: torch.Tensor, tokens: int) -> np.ndarray:
    with torch.no_grad():
        for _ in range(tokens):
            best = chain(ids)[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, best], dim=1)
    return ids[:, -tokens:].numpy()


def _graph(path: Path) -> onnx.GraphProto:
    return onnx.load(path, load_external_data=False).graph


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[DecoderChain, OnnxArtifact]:
    chain = tiny_chain(SHAPE)
    return chain, export_onnx(chain, tmp_path_factory.mktemp("onnx"))


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_greedy_tokens_equal_those_of_torch(name: str, tmp_path: Path) -> None:
    chain = tiny_chain(VARIANTS[name])
    artifact = export_onnx(chain, tmp_path)
    ids = token_ids(2, 11, chain.shape)
    decoder = OnnxDecoder(artifact.path, threads=1)
    logits = decoder.prefill(ids.numpy())
    assert np.abs(logits - chain(ids).numpy()).max() < 1e-4
    assert (decoder.greedy(ids.numpy(), 12) == torch_greedy(chain, ids, 12)).all()
    report = check_onnx(artifact, chain, ids, greedy_tokens=12, tolerance=1e-4)
    assert report.greedy_tokens == 12
    assert report.max_logits_difference < 1e-4


def test_names_and_dimensions(exported: tuple[DecoderChain, OnnxArtifact]) -> None:
    _, artifact = exported
    assert artifact.kv_heads == {2: 1, 3: 2}
    assert OnnxDecoder(artifact.path, threads=1).kv_heads == artifact.kv_heads
    graph = _graph(artifact.path)
    dims = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert dims == {
        "input_ids": ["batch", "sequence_length"],
        "attention_mask": ["batch", "total_sequence_length"],
        "past_key_values.2.key": ["batch", 1, "past_sequence_length", 8],
        "past_key_values.2.value": ["batch", 1, "past_sequence_length", 8],
        "past_key_values.3.key": ["batch", 2, "past_sequence_length", 8],
        "past_key_values.3.value": ["batch", 2, "past_sequence_length", 8],
        "logits": ["batch", "sequence_length", 264],
        "present.2.key": ["batch", 1, "total_sequence_length", 8],
        "present.2.value": ["batch", 1, "total_sequence_length", 8],
        "present.3.key": ["batch", 2, "total_sequence_length", 8],
        "present.3.value": ["batch", 2, "total_sequence_length", 8],
    }


def test_file_is_standard_onnx_with_each_weight_once(
    exported: tuple[DecoderChain, OnnxArtifact],
) -> None:
    chain, artifact = exported
    onnx.checker.check_model(artifact.path, full_check=True)
    model = onnx.load(artifact.path)
    assert [entry.domain for entry in model.opset_import] == [""]
    stored = sum(
        int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if not tensor.name.startswith("constant.")
    )
    assert stored == sum(parameter.numel() for parameter in chain.parameters())
    assert artifact.data_path.exists()
    assert sorted(p.name for p in artifact.path.parent.iterdir()) == [
        "model.onnx",
        "model.onnx.data",
    ]


def test_keys_and_values_are_not_repeated_in_memory(
    exported: tuple[DecoderChain, OnnxArtifact],
) -> None:
    operators = {node.op_type for node in _graph(exported[1].path).node}
    assert "Expand" not in operators
    assert "Reciprocal" not in operators


def test_rms_norm_is_fused_by_the_runtime(
    exported: tuple[DecoderChain, OnnxArtifact], tmp_path: Path
) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(exported[1].path), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in _graph(tmp_path / "optimized.onnx").node]
    assert operators.count("SimplifiedLayerNormalization") == 7
    assert "Pow" not in operators


def test_teacher_and_student_share_templates(
    exported: tuple[DecoderChain, OnnxArtifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("torch.onnx ran again")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    wide = SHAPE.model_copy(update={"ffn_width": 96, "hidden_size": 64, "vocab_size": 300})
    wider = tiny_chain(wide, Architecture())
    artifact = export_onnx(wider, tmp_path)
    assert artifact.kv_heads == {0: 2, 1: 2, 2: 2, 3: 2}
    check_onnx(artifact, wider, token_ids(2, 9, wider.shape), greedy_tokens=4, tolerance=1e-4)


def test_half_precision_keeps_statistics_in_float32(tmp_path: Path) -> None:
    chain = tiny_chain(SHAPE, ATTENTION_ONLY)
    artifact = export_onnx(chain, tmp_path, dtype="float16")
    graph = _graph(artifact.path)
    half = onnx.TensorProto.FLOAT16
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    assert kinds.pop("input_ids") == kinds.pop("attention_mask") == onnx.TensorProto.INT64
    assert set(kinds.values()) == {half}
    assert any(node.op_type == "Cast" for node in graph.node)
    ids = token_ids(2, 9, chain.shape)
    logits = OnnxDecoder(artifact.path, threads=1).prefill(ids.numpy())
    scale = float(chain(ids).abs().max())
    assert np.abs(logits - chain(ids).numpy()).max() < 0.02 * scale


def test_a_failed_gate_says_by_how_much(exported: tuple[DecoderChain, OnnxArtifact]) -> None:
    chain, artifact = exported
    ids = token_ids(2, 9, chain.shape)
    other = tiny_chain(SHAPE, seed=5)
    with pytest.raises(PassError, match=r"logits differ from torch's by up to [\d.]+"):
        check_onnx(artifact, other, ids, greedy_tokens=4)


def test_a_wrong_greedy_token_fails_the_gate(
    exported: tuple[DecoderChain, OnnxArtifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, artifact = exported
    greedy = OnnxDecoder.greedy

    def off_by_one(self: OnnxDecoder, *args: object) -> np.ndarray:
        tokens = greedy(self, *args)  # type: ignore[arg-type]
        tokens[1, 2] = (tokens[1, 2] + 1) % 264
        return tokens

    monkeypatch.setattr(OnnxDecoder, "greedy", off_by_one)
    with pytest.raises(PassError, match="greedy token 3 of 6 through the cache"):
        check_onnx(artifact, chain, token_ids(2, 9, chain.shape), greedy_tokens=6)


def test_unknown_dtype_and_length_dependent_rope_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int8"):
        export_onnx(tiny_chain(), tmp_path, dtype="int8")
    dynamic = tiny_shape(rope={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})
    with pytest.raises(CapabilityError, match="dynamic"):
        export_onnx(tiny_chain(dynamic), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_load_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        OnnxDecoder(broken, threads=1)


def test_a_missing_provider_is_refused_with_those_that_are_there(
    exported: tuple[DecoderChain, OnnxArtifact],
) -> None:
    with pytest.raises(CapabilityError) as error:
        OnnxDecoder(exported[1].path, 1, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert "has no CUDAExecutionProvider here, only " in str(error.value)
    assert "CPUExecutionProvider; " in str(error.value)
    assert "pip install onnxruntime-gpu" in str(error.value)


def test_a_provider_that_falls_back_to_another_is_refused(
    exported: tuple[DecoderChain, OnnxArtifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    class FallenBack:
        def __init__(self, *_: object, **__: object) -> None: ...

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    known = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    monkeypatch.setattr(onnxruntime, "InferenceSession", FallenBack)
    with pytest.raises(CapabilityError, match="has no CUDAExecutionProvider here"):
        OnnxDecoder(exported[1].path, 1, known)


def test_timings_and_their_conditions(exported: tuple[DecoderChain, OnnxArtifact]) -> None:
    decoder = OnnxDecoder(exported[1].path, threads=1)
    assert decoder.time_prefill(2, 7) > 0
    assert decoder.time_decode(2, 7) > 0
    conditions = decoder.conditions("decode", 2, 7)
    assert (conditions.runtime, conditions.threads) == ("onnxruntime", 1)
    assert (conditions.dtype, conditions.batch, conditions.prompt_tokens) == ("float32", 2, 7)
    assert conditions.device


def test_genai_config(tmp_path: Path) -> None:
    shape = tiny_shape(eos_token_ids=(257, 258))
    config = json.loads(write_genai_config(shape, tmp_path).read_text("utf-8"))
    decoder = config["model"]["decoder"]
    assert decoder["inputs"]["past_key_names"] % 3 == "past_key_values.3.key"
    assert (decoder["num_hidden_layers"], decoder["head_size"]) == (4, 8)
    assert config["model"]["eos_token_id"] == [257, 258]
    assert config["search"]["past_present_share_buffer"] is False
