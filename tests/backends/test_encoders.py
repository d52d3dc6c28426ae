"""Exported encoders: ONNX and Hugging Face compute what the chain computes, at any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.backends.huggingface import check_encoder_folder, export_encoder_folder
from nas.backends.onnx import (
    block_stack,
    check_encoder,
    encoder_limit,
    export_encoder,
    save_model,
)
from nas.backends.onnxruntime import OnnxEncoder
from nas.blocks import BlockContext, dequantised
from nas.chain import EncoderChain
from nas.errors import PassError
from nas.ir import Architecture, FeedForward, GroupedQueryAttention, Slot
from tests.encoders import MIXED_ENCODER, encoder_shape, encoder_tokenizer, tiny_encoder

IDS = torch.randint(4, 200, (3, 9), generator=torch.Generator().manual_seed(0))
VARIANTS = {
    "mixed": (encoder_shape(), MIXED_ENCODER),
    "teacher": (encoder_shape(), Architecture()),
    "first token, any length, no types": (
        encoder_shape(pooling="cls", normalised=False, type_vocab_size=0),
        MIXED_ENCODER,
    ),
    "masked tokens": (encoder_shape(masked_head=True, activation="relu"), MIXED_ENCODER),
}

EIGHT_BITS = Architecture(
    choices={
        "layers.0.attention": GroupedQueryAttention(kv_heads=4, precision="int8_dynamic"),
        "layers.0.ffn": FeedForward(width=20, precision="int8_dynamic"),
        "layers.1.attention": GroupedQueryAttention(kv_heads=4, precision="float16"),
        "layers.1.ffn": FeedForward(width=20, precision="int8"),
    }
)


@pytest.fixture(params=VARIANTS, ids=str)
def chain(request: pytest.FixtureRequest) -> EncoderChain:
    return tiny_encoder(*VARIANTS[request.param])


def test_onnx_computes_the_encoder_at_sizes_of_its_own(chain: EncoderChain, tmp_path: Path) -> None:
    artifact = export_encoder(chain, tmp_path)
    assert check_encoder(artifact, chain, IDS).most < 1e-4
    encoder = OnnxEncoder(artifact.path)
    for rows, tokens in ((1, 1), (5, 33)):
        ids = torch.randint(4, 200, (rows, tokens))
        mask = torch.ones_like(ids)
        mask[-1, (tokens + 1) // 2 :] = 0
        states, answers = encoder.run(ids.numpy(), mask.numpy())
        expected = chain(ids, mask)
        seen = mask.bool()
        torch.testing.assert_close(
            torch.from_numpy(states)[seen], expected[seen], atol=1e-4, rtol=0
        )
        found, wanted = torch.from_numpy(answers), chain.pool(expected, mask)
        if chain.shape.masked_head:
            found, wanted = found[seen], chain.logits(expected)[seen]
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert encoder.time_prefill(2, 8) > 0


def test_the_onnx_gate_names_the_difference(tmp_path: Path) -> None:
    artifact = export_encoder(tiny_encoder(), tmp_path)
    with pytest.raises(PassError, match="does not compute this network"):
        check_encoder(artifact, tiny_encoder(seed=1), IDS)


def test_blocks_of_eight_bits_pass_the_gate_and_lie_in_the_folder_in_float(tmp_path: Path) -> None:
    chain = tiny_encoder(encoder_shape(), EIGHT_BITS)
    artifact = export_encoder(chain, tmp_path / "onnx")
    limit = encoder_limit(chain, IDS, 1e-6)
    assert min(limit.states, limit.answers) > 1e-3
    found = check_encoder(artifact, chain, IDS, tolerance=1e-6)
    assert found.states < 0.5 * limit.states
    assert found.answers < 0.5 * limit.answers
    other = tiny_encoder(encoder_shape(), EIGHT_BITS, seed=1)
    with pytest.raises(PassError, match="does not compute this network"):
        check_encoder(artifact, other, IDS)
    plain, folder = dequantised(chain), tmp_path / "folder"
    export_encoder_folder(plain, encoder_tokenizer(), folder, name="eight bits")
    assert check_encoder_folder(folder, plain, IDS) < 1e-5


@pytest.mark.parametrize(("gain", "more"), [(0.002, False), (20.0, True)])
def test_rounding_allows_logits_what_it_changes_in_logits(
    tmp_path: Path, gain: float, more: bool
) -> None:
    """The head makes much or little of a difference between states."""
    chain = tiny_encoder(encoder_shape(masked_head=True), EIGHT_BITS)
    chain.head.norm.weight.mul_(gain)
    limit = encoder_limit(chain, IDS, 1e-6)
    assert (limit.answers > limit.states) == more
    artifact = export_encoder(chain, tmp_path)
    assert check_encoder(artifact, chain, IDS, tolerance=1e-6).answers < 0.5 * limit.answers
    wrong = tiny_encoder(encoder_shape(masked_head=True), EIGHT_BITS)
    wrong.head.norm.weight.mul_(gain)
    wrong.head.bias.add_(1.6 * limit.answers)
    with pytest.raises(PassError, match="logits differ"):
        check_encoder(artifact, wrong, IDS, tolerance=1e-6)


def test_float16_keeps_what_padding_hides(tmp_path: Path) -> None:
    chain = tiny_encoder()
    artifact = export_encoder(chain, tmp_path, dtype="float16")
    assert check_encoder(artifact, chain, IDS, tolerance=0.05).most > 0


def test_a_stack_is_its_blocks_in_a_row(tmp_path: Path) -> None:
    import onnxruntime

    from nas.backends.onnx._stack import stack_slots

    shape = encoder_shape()
    for name, spec in MIXED_ENCODER.choices.items():
        kind = "ffn" if name.endswith("ffn") else "attention"
        path = tmp_path / f"{name}.onnx"
        save_model(block_stack(shape, kind, spec, 2), path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        state = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))
        feeds = {"state": state.numpy(), "mask": np.zeros((2, 1, 1, 7), np.float32)}
        feeds = {node.name: feeds[node.name] for node in session.get_inputs()}
        resolved = shape.resolve(Slot(layer=0, kind=kind), spec)
        expected = state
        with torch.no_grad():
            for slot in stack_slots(shape, kind, resolved, 2):
                expected = slot(expected, BlockContext(causal=False))
        found = torch.from_numpy(session.run(None, feeds)[0])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_folder_loads_as_what_was_exported(chain: EncoderChain, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    artifact = export_encoder_folder(chain, encoder_tokenizer(), folder, name="student")
    assert check_encoder_folder(folder, chain, IDS) < 1e-5
    modules = {"modules.json", "1_Pooling/config.json"}
    assert modules.isdisjoint(artifact.files) == chain.shape.masked_head
    assert "tokenizer.json" in artifact.files
    if chain.shape.masked_head:
        return
    kinds = [entry["type"].rpartition(".")[2] for entry in json.loads(_read(folder))]
    assert kinds == ["Transformer", "Pooling", *(["Normalize"] if chain.shape.normalised else [])]


def _read(folder: Path) -> str:
    return (folder / "modules.json").read_text(encoding="utf-8")


def test_remote_code_is_all_that_the_folder_needs(tmp_path: Path) -> None:
    from transformers import AutoModel

    chain = tiny_encoder()
    folder = tmp_path / "student"
    export_encoder_folder(chain, encoder_tokenizer(), folder, name="student")
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).last_hidden_state, chain(IDS), atol=1e-5, rtol=1e-5)


def test_masked_tokens_are_told_by_the_folder_alone(tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, pipeline

    chain, folder = tiny_encoder(encoder_shape(masked_head=True)), tmp_path / "student"
    export_encoder_folder(chain, encoder_tokenizer(), folder, name="student")
    model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        found = model(IDS, labels=IDS)
    expected = chain.logits(chain(IDS))
    torch.testing.assert_close(found.logits, expected, atol=1e-4, rtol=1e-4)
    loss = torch.nn.functional.cross_entropy(expected.flatten(0, 1), IDS.flatten())
    torch.testing.assert_close(found.loss, loss, atol=1e-4, rtol=1e-4)
    tell = pipeline("fill-mask", str(folder), trust_remote_code=True)
    assert len(tell("the [MASK] of")) == 5
    with pytest.raises(PassError, match="logits differ"):
        check_encoder_folder(folder, tiny_encoder(chain.shape, seed=1), IDS)


def test_the_folder_gate_names_the_difference(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    export_encoder_folder(tiny_encoder(), encoder_tokenizer(), folder, name="student")
    with pytest.raises(PassError, match="embeddings differ"):
        check_encoder_folder(folder, tiny_encoder(seed=1), IDS)
    with (folder / "modeling_nas_encoder.py").open("a") as code:
        code.write("\n")
    with pytest.raises(PassError, match="is not what nas ships"):
        check_encoder_folder(folder, tiny_encoder(), IDS)
