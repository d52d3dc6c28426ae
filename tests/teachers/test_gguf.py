"""GGUF files: header, dequantised weights, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.config import TeacherConfig
from nas.errors import CapabilityError, ConfigError
from nas.teachers import chain_from_model, load_teacher, read_shape
from tests.models import tiny_model

gguf = pytest.importorskip("gguf", reason="needs the package gguf")

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """As the converter of llama.cpp stores query and key rows of Llama models."""
    halves = weight.reshape(heads, 2, -1, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _write(
    path: Path,
    family: str,
    extra: dict[str, Any] | None = None,
    tensors: dict[str, Any] | None = None,
    q8: str = "",
    **overrides: Any,
) -> Path:
    """A float32 GGUF file of `tiny_model(family)` with `extra` keys, the tensor `q8` quantised."""
    model = tiny_model(family, **overrides)
    config = model.config
    writer = gguf.GGUFWriter(path, family)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if family == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    writer.add_token_list(["a", "b", "c"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    for key, value in (extra or {}).items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for foreign, own in _NAMES.items():
            name = name.replace(foreign, own)
        if family == "llama" and ".attn_q." in name:
            weight = _interleaved(weight, config.num_attention_heads)
        if family == "llama" and ".attn_k." in name:
            weight = _interleaved(weight, config.num_key_value_heads)
        values = weight.numpy().copy()
        if name == q8:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, np.asarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
        ("qwen2", {}),
        ("qwen3", {"tie_word_embeddings": True}),
    ],
)
@torch.no_grad()
def test_equals_the_model(
    family: str,
    overrides: dict[str, Any],
    tmp_path: Path,
    tiny_folder: Callable[[str], Path],
) -> None:
    path = _write(tmp_path / "teacher.gguf", family, **overrides)
    config = TeacherConfig(source=str(path), tokenizer=str(tiny_folder("llama")))
    teacher = load_teacher(config)
    expected = chain_from_model(tiny_model(family, **overrides))
    ids = torch.arange(40).reshape(2, 20)
    torch.testing.assert_close(teacher.chain(ids), expected(ids), atol=1e-4, rtol=0)
    ours, theirs = teacher.shape, expected.shape
    assert ours.norm_eps == pytest.approx(theirs.norm_eps)  # stored as float32
    assert ours.model_copy(update={"norm_eps": theirs.norm_eps}) == theirs
    assert read_shape(config) == ours


def test_quantised_weights(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """A Q8_0 tensor comes back within half a step; the scale itself is a float16."""
    path = _write(tmp_path / "teacher.gguf", "llama", q8="token_embd.weight")
    config = TeacherConfig(source=str(path), tokenizer=str(tiny_folder("llama")))
    read = load_teacher(config).chain.embed.weight
    original = tiny_model("llama").model.embed_tokens.weight.detach()
    step = original.abs().amax(-1, keepdim=True) / 127
    assert ((read - original).abs() <= 0.6 * step).all()
    assert not torch.equal(read, original)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llama.expert_count": 4}, "mixture-of-experts"),
        ({"llama.rope.scaling.type": "yarn"}, "use the model's Hugging Face folder"),
        ({"llama.rope.dimension_count": 4}, "partly rotated"),
    ],
)
def test_what_a_chain_cannot_express(extra: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "teacher.gguf", "llama", extra)
    with pytest.raises(CapabilityError, match=message):
        read_shape(TeacherConfig(source=str(path)))


def test_frequency_factors_are_refused(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Llama 3.1 files scale the angles by a tensor that no reader may overlook."""
    path = _write(tmp_path / "teacher.gguf", "llama", tensors={"rope_freqs.weight": [1, 2, 3, 4]})
    with pytest.raises(CapabilityError, match="rope_freqs"):
        load_teacher(TeacherConfig(source=str(path), tokenizer=str(tiny_folder("llama"))))


def test_linear_rope(tmp_path: Path) -> None:
    extra = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    path = _write(tmp_path / "teacher.gguf", "llama", extra)
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    assert read_shape(TeacherConfig(source=str(path))).rope == rope


def test_other_architectures(tmp_path: Path) -> None:
    for kind, reason in (("gpt2", r"'gpt2' is not supported.*llama"), ("bert", "folder alone")):
        writer = gguf.GGUFWriter(tmp_path / "x.gguf", kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        with pytest.raises(CapabilityError, match=reason):
            read_shape(TeacherConfig(source=str(tmp_path / "x.gguf")))


@pytest.mark.parametrize("kept", [0, 3, 10, 30, 200, 1000])
def test_torn_headers(kept: int, tmp_path: Path) -> None:
    path = _write(tmp_path / "teacher.gguf", "llama")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match="not a whole GGUF file"):
        read_shape(TeacherConfig(source=str(path)))


def test_torn_weights(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    path = _write(tmp_path / "teacher.gguf", "llama")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_teacher(TeacherConfig(source=str(path), tokenizer=str(tiny_folder("llama"))))


def test_not_gguf_at_all(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK" * 100)
    with pytest.raises(ConfigError, match="magic bytes"):
        read_shape(TeacherConfig(source=str(tmp_path / "x.gguf")))
