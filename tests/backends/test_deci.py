"""The DeciLM layout: read back by a reader of our own, and run by llama.cpp itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from nas.backends.deci import (
    DeciLM,
    Fields,
    LlamaCpp,
    check_decilm,
    check_gguf,
    deci_layers,
    export_decilm,
    export_gguf,
    of_file,
    of_tokenizer,
    reads_alike,
    written_layers,
)
from nas.blocks import dequantised
from nas.chain import DecoderChain
from nas.data._stream import _separators
from nas.errors import ArtifactError, CapabilityError, ConfigError, PassError
from nas.ir import Architecture, GatedFeedForward, GroupedQueryAttention, LinearMap, Skip
from tests.chains import tiny_chain, tiny_ids, tiny_shape
from tests.models import tiny_tokenizer

A = [f"layers.{i}.attention" for i in range(4)]
F = [f"layers.{i}.ffn" for i in range(4)]
NARROW, NONE = GatedFeedForward(width=20), Skip()
ROPE = {"rope_type": "default", "rope_theta": 1e4}
ARCHITECTURES = {
    "teacher": {},
    "other heads and widths": {
        A[0]: GroupedQueryAttention(kv_heads=1),
        F[1]: NARROW,
        A[2]: GroupedQueryAttention(kv_heads=4),
        F[3]: GatedFeedForward(width=32),
    },
    "without attention": {A[1]: NONE, A[3]: NONE},
    "without feed-forward": {F[0]: NONE, F[3]: NONE},
    "empty layers": {A[1]: NONE, F[1]: NONE, A[3]: NONE, F[3]: NONE},
    "rounded": {
        A[0]: GroupedQueryAttention(kv_heads=2, precision="int8_dynamic"),
        F[1]: GatedFeedForward(width=48, precision="int8"),
        F[2]: GatedFeedForward(width=48, precision="float16"),
    },
}
FIRST = {
    "first layer without attention": {A[0]: NONE},
    "first layers empty": {A[0]: NONE, F[0]: NONE, A[1]: NONE, F[2]: NONE},
}


def _chain(choices: dict[str, Any], **overrides: Any) -> DecoderChain:
    shape = tiny_shape(**{"rope": ROPE, **overrides})
    return dequantised(tiny_chain(shape, Architecture(choices=choices)))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_reads_back_as_the_student(name: str, tied: bool, tmp_path: Path) -> None:
    chain = _chain(ARCHITECTURES[name], tied_embeddings=tied)
    export_decilm(chain, None, tmp_path / "out")
    assert check_decilm(tmp_path / "out", chain, tiny_ids(), tolerance=1e-4) < 1e-4


def test_a_server_reads_attributes_and_the_widths_themselves(tmp_path: Path) -> None:
    """As vLLM reads them: `ffn_mult` is looked for first, and would round widths to 256."""
    from transformers import AutoConfig

    chain = _chain({A[1]: NONE, **ARCHITECTURES["other heads and widths"], F[2]: NONE})
    export_decilm(chain, tiny_tokenizer(), tmp_path / "out")
    config = AutoConfig.from_pretrained(tmp_path / "out", trust_remote_code=True)
    first, second, third, _ = config.block_configs
    assert config.num_attention_heads // first.attention.n_heads_in_group == 1
    assert not hasattr(first.ffn, "ffn_mult")
    assert (first.ffn.intermediate_size, second.ffn.intermediate_size) == (48, 20)
    assert (second.attention.no_op, first.attention.no_op, third.ffn.no_op) == (True, False, True)
    assert config.rope_parameters["rope_theta"] == 1e4
    assert config.architectures == ["DeciLMForCausalLM"]
    assert json.loads(config.to_json_string())["block_configs"][1]["attention"]["no_op"]
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_the_reader_follows_nvidias_own_widths(tmp_path: Path) -> None:
    """A width from `ffn_mult`: 2/3 of 4.5 times 128, up to a multiple of 256."""
    chain = _chain({}, layers=1, hidden_size=128, ffn_width=512, head_dim=32)
    folder = export_decilm(chain, None, tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    config["block_configs"][0]["ffn"] = {"ffn_mult": 4.5, "no_op": False}
    (folder / "config.json").write_text(json.dumps(config))
    torch.testing.assert_close(DeciLM(folder)(tiny_ids()), chain(tiny_ids()), atol=1e-4, rtol=1e-4)


def test_a_wrong_folder_fails_its_gate(tmp_path: Path) -> None:
    chain = _chain({F[1]: NARROW})
    folder = export_decilm(chain, None, tmp_path / "out")
    with pytest.raises(PassError, match="does not hold this network"):
        check_decilm(folder, tiny_chain(tiny_shape(rope=ROPE)), tiny_ids(), tolerance=1e-4)
    weights = load_file(str(folder / "model.safetensors"))
    extra = {**weights, "model.layers.9.mlp.up_proj.weight": torch.ones(2, 2)}
    save_file(extra, str(folder / "model.safetensors"))
    with pytest.raises(PassError, match=r"does not speak of model\.layers\.9"):
        check_decilm(folder, chain, tiny_ids(), tolerance=1e-4)


def test_a_full_disk_leaves_the_earlier_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_decilm(_chain({}), None, tmp_path / "out")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(PassError, match="No space left on device"):
        export_decilm(_chain({A[1]: NONE}), None, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("choices", "shape", "message"),
    [
        ({F[2]: LinearMap()}, {}, r"layers\.2\.ffn is linear"),
        (
            {A[1]: GroupedQueryAttention(kv_heads=1, query_heads=2)},
            {},
            r"layers\.1\.attention has 2 query heads, others 4",
        ),
        ({}, {"qkv_bias": True}, "its layers have biases"),
        ({}, {"qk_norm": True}, "queries and keys are normed"),
        ({}, {"sliding_window": 8}, "its attention has a window"),
        ({}, {"activation": "gelu"}, "its activation is gelu"),
    ],
)
def test_what_the_layout_has_no_words_for_is_refused(
    choices: dict[str, Any], shape: dict[str, Any], message: str, tmp_path: Path
) -> None:
    chain = _chain(choices, **shape)
    for export in (
        lambda: export_decilm(chain, None, tmp_path / "out"),
        lambda: export_gguf(chain, tmp_path / "out.gguf", name="x", vocabulary={}),
    ):
        with pytest.raises(CapabilityError, match=message):
            export()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({A[2]: LinearMap()}, r"vLLM's DeciLM .* layers\.2\.attention is a linear map"),
        ({A[0]: NONE}, r"layers\.0\.ffn stands before the first attention"),
        ({A[0]: NONE, F[0]: NONE, A[1]: NONE}, r"layers\.1\.ffn stands before"),
        (dict.fromkeys(A, NONE) | dict.fromkeys(F, NONE), "no layer has attention"),
    ],
)
def test_what_vllm_does_not_run_is_refused(
    choices: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CapabilityError, match=message):
        export_decilm(_chain(choices), None, tmp_path / "out")


def test_a_layer_without_anything_may_open_the_network_in_vllm(tmp_path: Path) -> None:
    chain = _chain({A[0]: NONE, F[0]: NONE})
    folder = export_decilm(chain, None, tmp_path / "out")
    check_decilm(folder, chain, tiny_ids(), tolerance=1e-4)


# llama.cpp


@pytest.fixture(scope="module")
def vocabulary() -> Fields:
    gguf = pytest.importorskip("gguf")
    return {"tokenizer.ggml.model": ("none", gguf.GGUFValueType.STRING, None)}


def _gguf(chain: DecoderChain, folder: Path, vocabulary: Fields, dtype: str = "float32") -> Path:
    return export_gguf(chain, folder / "a.gguf", name="tiny", vocabulary=vocabulary, dtype=dtype)


@pytest.mark.parametrize("name", [*ARCHITECTURES, *FIRST])
def test_llama_cpp_computes_the_student(name: str, tmp_path: Path, vocabulary: Fields) -> None:
    pytest.importorskip("llama_cpp")
    chain = _chain({**ARCHITECTURES, **FIRST}[name])
    path = _gguf(chain, tmp_path, vocabulary)
    check_gguf(path, chain, tiny_ids()[0], greedy_tokens=24, tolerance=2e-3)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
        {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ],
)
def test_scaled_angles_are_those_of_llama_cpp(
    rope: dict[str, Any], tmp_path: Path, vocabulary: Fields
) -> None:
    pytest.importorskip("llama_cpp")
    chain = _chain({}, rope=rope, tied_embeddings=False)
    path = _gguf(chain, tmp_path, vocabulary)
    check_gguf(path, chain, tiny_ids()[0], greedy_tokens=24, tolerance=2e-3)
    plain = _chain({}, tied_embeddings=False)
    with pytest.raises(PassError, match="does not hold this network"):
        check_gguf(path, plain, tiny_ids()[0], greedy_tokens=0, tolerance=2e-3)


def test_half_precision_is_near(tmp_path: Path, vocabulary: Fields) -> None:
    pytest.importorskip("llama_cpp")
    chain = _chain(ARCHITECTURES["other heads and widths"])
    path = _gguf(chain, tmp_path, vocabulary, "float16")
    assert check_gguf(path, chain, tiny_ids()[0], greedy_tokens=8, tolerance=0.5) > 1e-5
    with pytest.raises(ConfigError, match="float32 or float16, not bfloat16"):
        _gguf(chain, tmp_path, vocabulary, "bfloat16")


def test_another_network_fails_its_gate(tmp_path: Path, vocabulary: Fields) -> None:
    pytest.importorskip("llama_cpp")
    path = _gguf(_chain({F[1]: NARROW}), tmp_path, vocabulary)
    with pytest.raises(PassError, match=r"llama\.cpp's logits differ"):
        check_gguf(path, _chain({}), tiny_ids()[0], greedy_tokens=4, tolerance=2e-3)


def test_a_file_that_llama_cpp_does_not_load_says_so(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    (tmp_path / "a.gguf").write_bytes(b"GGUF nonsense")
    with pytest.raises(PassError, match=r"llama\.cpp does not load it"):
        LlamaCpp(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("choices", "shape", "message"),
    [
        ({A[1]: LinearMap()}, {}, r"layers\.1\.attention is a linear map with an offset"),
        ({}, {"rope": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type is dynamic"),
        (dict.fromkeys(A, NONE), {}, "no layer has attention"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused(
    choices: dict[str, Any], shape: dict[str, Any], message: str, vocabulary: Fields, tmp_path: Path
) -> None:
    with pytest.raises(CapabilityError, match=rf"llama\.cpp's deci .*{message}"):
        _gguf(_chain(choices, **shape), tmp_path, vocabulary)
    assert not list(tmp_path.iterdir())


def test_a_linear_map_without_an_offset_is_linear_attention(
    tmp_path: Path, vocabulary: Fields
) -> None:
    pytest.importorskip("llama_cpp")
    chain = _chain({A[0]: LinearMap(), A[2]: LinearMap()})
    for slot in (0, 4):
        chain.slot(slot).get_parameter("branch.proj.bias").zero_()
    path = _gguf(chain, tmp_path, vocabulary)
    check_gguf(path, chain, tiny_ids()[0], greedy_tokens=8, tolerance=2e-3)


def test_layers_are_told_apart() -> None:
    chain = _chain({A[0]: NONE, F[0]: NONE, A[2]: NONE, F[3]: NONE})
    layers = deci_layers(chain.shape, chain.architecture)
    assert [(n.kv_heads, n.width, n.empty) for n in layers] == [
        (0, 0, True),
        (2, 48, False),
        (0, 48, False),
        (2, 0, False),
    ]
    assert [layer.index for layer in written_layers(chain)] == [1, 2, 3]


def test_a_full_disk_leaves_the_earlier_file(
    tmp_path: Path, vocabulary: Fields, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _gguf(_chain({}), tmp_path, vocabulary)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", _full)
    with pytest.raises(PassError, match="No space left on device"):
        _gguf(_chain({A[1]: NONE}), tmp_path, vocabulary)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.gguf"]


def _merging_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE that splits text as GPT-2 does, so that four digits may become one token;
    `template` says what is added to a text."""
    merges = [("t", "h"), ("th", "e"), ("1", "2"), ("12", "3"), ("123", "4")]
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "</s>"])
    if template is not None:
        ends = [("<s>", 261), ("</s>", 262)]
        backend.post_processor = TemplateProcessing(single=template, special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    ("template", "adds"),
    [
        (None, (False, False)),
        ("<s> $A", (True, False)),
        ("<s> $A </s>", (True, True)),
        ("$A </s>", (False, True)),
    ],
)
def test_what_a_tokenizer_adds_is_added_by_llama_cpp(
    template: str | None, adds: tuple[bool, bool], tmp_path: Path
) -> None:
    """As the training text was opened: a Llama 3 without its first token is another network."""
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    tokenizer = _merging_tokenizer(template)
    found = of_tokenizer(tokenizer, 264, lambda fields: reads_alike(tokenizer, fields))
    assert tuple(found[f"tokenizer.ggml.add_{end}_token"][0] for end in ("bos", "eos")) == adds
    opened = LlamaCpp(_gguf(_chain({}), tmp_path, found))
    text = "the 1234 words"
    assert opened.read(text.encode()) == tokenizer(text)["input_ids"]
    assert (opened.read(text.encode())[0] == 261) == adds[0] == (_separators(tokenizer)[0] == [261])
    opened.close()


def test_a_tokenizer_that_opens_with_another_token_is_refused() -> None:
    """The comparison sees what is added, so that a file never reads text in another way."""
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    tokenizer = _merging_tokenizer("</s> $A")
    with pytest.raises(CapabilityError, match=r"none of llama\.cpp's ways to split text"):
        of_tokenizer(tokenizer, 264, lambda fields: reads_alike(tokenizer, fields))


def test_a_tokenizer_of_transformers_reads_the_same_text(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    tokenizer = _merging_tokenizer()
    found = of_tokenizer(tokenizer, 264, lambda fields: reads_alike(tokenizer, fields))
    assert found["tokenizer.ggml.pre"][0] == "gpt-2"
    tokens = found["tokenizer.ggml.tokens"][0]
    assert len(tokens) == 264
    assert (tokens[257], tokens[261], tokens[263]) == ("the", "<s>", "[PAD263]")
    kinds = found["tokenizer.ggml.token_type"][0]
    assert (kinds[0], kinds[261], kinds[263]) == (1, 3, 5)
    path = _gguf(_chain({}), tmp_path, found)
    copied = of_file(path)
    assert {k: v[0] for k, v in copied.items()} == {k: v[0] for k, v in found.items()}
    opened = LlamaCpp(path)
    text = "the naïve text, the 1234 words\n"
    assert opened.read(text.encode()) == tokenizer.encode(text, add_special_tokens=False)
    assert np.isfinite(opened.logits([1, 2, 3])).all()
    opened.close()


def test_a_tokenizer_that_nothing_reads_alike_is_refused() -> None:
    pytest.importorskip("gguf")
    with pytest.raises(CapabilityError, match=r"none of llama\.cpp's ways to split text"):
        of_tokenizer(tiny_tokenizer(), 264, lambda fields: False)


def test_a_torn_file_has_no_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ArtifactError, match="no GGUF file with a tokenizer"):
        of_file(tmp_path / "a.gguf")
