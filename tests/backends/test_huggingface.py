"""Exported folders compute what the chain computes, in transformers and read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas.backends.huggingface import (
    HuggingFaceArtifact,
    check_huggingface,
    export_huggingface,
    load_student,
    register_auto_classes,
    transformers_model,
)
from nas.chain import DecoderChain, greedy_tokens
from nas.errors import ArtifactError, PassError
from nas.ir import Architecture, GatedFeedForward, GroupedQueryAttention, Skip
from tests.chains import MIXED, tiny_chain, tiny_ids, tiny_shape
from tests.models import tiny_tokenizer

_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_NO_ATTENTION = Architecture(choices={f"layers.{i}.attention": Skip() for i in range(4)})
_UNIFORM = Architecture(choices={f"layers.{i}.ffn": GatedFeedForward(width=16) for i in range(4)})
_VARIANTS: dict[str, tuple[dict[str, Any], Architecture]] = {
    "mixed": ({}, MIXED),
    "homogeneous": ({}, Architecture()),
    "uniform": ({}, _UNIFORM),
    "no attention": ({}, _NO_ATTENTION),
    "qwen2": ({"qkv_bias": True, "tied_embeddings": False, "eos_token_ids": (257, 3)}, MIXED),
    "qwen3": ({"qk_norm": True, "head_dim": 16, "family": "qwen3"}, MIXED),
    "mistral": ({"sliding_window": 5, "tied_embeddings": False}, MIXED),
    "biased": ({"output_bias": True, "ffn_bias": True, "activation": "gelu"}, MIXED),
    "llama3 rope": ({"rope": _LLAMA3}, MIXED),
}


@pytest.fixture
def chain() -> DecoderChain:
    return tiny_chain()


@pytest.fixture
def artifact(chain: DecoderChain, tmp_path: Path) -> HuggingFaceArtifact:
    return export_huggingface(chain, tiny_tokenizer(), tmp_path / "student", name="tiny")


@pytest.fixture
def model(artifact: HuggingFaceArtifact) -> Any:
    from transformers import AutoModelForCausalLM

    register_auto_classes()
    return AutoModelForCausalLM.from_pretrained(artifact.folder).eval()


@pytest.mark.parametrize("variant", _VARIANTS)
def test_folder_computes_what_the_chain_computes(variant: str, tmp_path: Path) -> None:
    settings, architecture = _VARIANTS[variant]
    chain = tiny_chain(tiny_shape(**settings), architecture)
    artifact = export_huggingface(chain, tiny_tokenizer(), tmp_path / "student", name=variant)
    report = check_huggingface(artifact, chain, tiny_ids(tokens=16), greedy_tokens=12)
    assert report.max_logits_difference <= 1e-5
    assert report.greedy_tokens == 12
    restored = load_student(artifact.folder)
    assert restored.shape == chain.shape
    assert restored.architecture == chain.architecture
    assert torch.equal(restored(tiny_ids()), chain(tiny_ids()))


@pytest.mark.parametrize("variant", _VARIANTS)
def test_model_in_memory_computes_what_the_chain_computes(variant: str) -> None:
    settings, architecture = _VARIANTS[variant]
    chain = tiny_chain(tiny_shape(**settings), architecture)
    model, ids = transformers_model(chain), tiny_ids()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, chain(ids), atol=1e-4, rtol=0)
    assert model.model.embed_tokens.weight.data_ptr() == chain.embed.weight.data_ptr()


def test_gate_names_the_difference_of_altered_weights(
    artifact: HuggingFaceArtifact, chain: DecoderChain
) -> None:
    path = artifact.folder / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.3.self_attn.v_proj.weight"] *= 1.5
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(PassError, match=r"logits differ .* by \d"):
        check_huggingface(artifact, chain, tiny_ids(), greedy_tokens=4)
    with pytest.raises(PassError, match="greedy token"):
        check_huggingface(artifact, chain, tiny_ids(8), greedy_tokens=32, tolerance=1e9)


def test_gate_refuses_foreign_code(artifact: HuggingFaceArtifact, chain: DecoderChain) -> None:
    code = artifact.folder / "modeling_nas.py"
    code.write_text(code.read_text() + "\n# changed\n")
    with pytest.raises(PassError, match=r"modeling_nas\.py is not what nas ships"):
        check_huggingface(artifact, chain, tiny_ids(), greedy_tokens=1)


def test_bfloat16_student_keeps_its_format(tmp_path: Path) -> None:
    chain = tiny_chain().to(torch.bfloat16)
    artifact = export_huggingface(chain, None, tmp_path / "student", name="low")
    assert artifact.dtype == "bfloat16"
    assert load_student(artifact.folder).norm.weight.dtype == torch.bfloat16
    check_huggingface(artifact, chain, tiny_ids(), greedy_tokens=8)


def test_cache_has_an_entry_for_each_layer_with_attention(model: Any) -> None:
    cache = model(tiny_ids(), use_cache=True).past_key_values
    assert [tuple(layer.keys.shape) for layer in cache.layers] == [(3, 1, 12, 8), (3, 2, 12, 8)]


def test_left_padding_changes_nothing(model: Any, chain: DecoderChain) -> None:
    short, long = tiny_ids(1, 5), tiny_ids(1, 9, seed=2)
    batch = torch.cat((torch.cat((torch.full((1, 4), 257), short), 1), long))
    mask = torch.ones_like(batch)
    mask[0, :4] = 0
    logits = model(batch, attention_mask=mask).logits
    torch.testing.assert_close(logits[:1, 4:], model(short).logits, atol=1e-4, rtol=0)
    generated = _generate(model, batch, attention_mask=mask)
    expected = torch.cat([greedy_tokens(chain, prompt, 16) for prompt in (short, long)])
    assert torch.equal(generated, expected)


@pytest.mark.parametrize("settings", [{"cache_implementation": "static"}, {"use_cache": False}])
def test_other_caches_generate_the_same(
    model: Any, chain: DecoderChain, settings: dict[str, Any]
) -> None:
    expected = greedy_tokens(chain, tiny_ids(), 16)
    assert torch.equal(_generate(model, tiny_ids(), **settings), expected)


def test_beam_search_runs(model: Any) -> None:
    assert _generate(model, tiny_ids(), num_beams=3).shape == (3, 16)


def test_attention_implementations_agree(model: Any) -> None:
    expected = model(tiny_ids()).logits
    model.set_attn_implementation("eager")
    outputs = model(tiny_ids(), output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(outputs.logits, expected, atol=1e-4, rtol=0)
    assert len(outputs.attentions) == 2
    assert len(outputs.hidden_states) == 5


def test_logits_to_keep(model: Any) -> None:
    whole = model(tiny_ids()).logits
    torch.testing.assert_close(model(tiny_ids(), logits_to_keep=2).logits, whole[:, -2:])
    picked = torch.tensor([0, 7])
    torch.testing.assert_close(model(tiny_ids(), logits_to_keep=picked).logits, whole[:, picked])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_labels_give_a_loss_that_trains_every_weight(model: Any, checkpointing: bool) -> None:
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids = tiny_ids()
    outputs = model(ids, labels=ids, use_cache=False)
    expected = torch.nn.functional.cross_entropy(
        outputs.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    torch.testing.assert_close(outputs.loss, expected)
    outputs.loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_save_pretrained_round_trip(model: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model.save_pretrained(tmp_path / "again")
    expected = model(tiny_ids()).logits
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again").eval()
    assert torch.equal(again(tiny_ids()).logits, expected)
    assert (tmp_path / "again" / "modeling_nas.py").is_file()
    torch.testing.assert_close(load_student(tmp_path / "again")(tiny_ids()), expected)


def test_large_weights_are_sharded(chain: DecoderChain, tmp_path: Path) -> None:
    artifact = export_huggingface(
        chain, None, tmp_path / "student", name="tiny", shard_bytes=30_000
    )
    shards = [name for name in artifact.files if name.endswith(".safetensors")]
    assert len(shards) > 1
    check_huggingface(artifact, chain, tiny_ids(), greedy_tokens=2)
    (artifact.folder / shards[0]).unlink()
    with pytest.raises(ArtifactError, match="missing or torn"):
        load_student(artifact.folder)


def test_folder_says_what_it_is(artifact: HuggingFaceArtifact, chain: DecoderChain) -> None:
    from transformers import AutoTokenizer

    register_auto_classes()
    config = json.loads((artifact.folder / "config.json").read_text())
    assert config["per_layer_config"]["0"] == {"skip": ["attention", "mlp"]}
    assert config["per_layer_config"]["2"] == {
        "mlp_block": "linear",
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    assert config["intermediate_size"] == chain.shape.ffn_width
    generation = json.loads((artifact.folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 257
    assert "| 2 | h2kv1 | linear |" in (artifact.folder / "README.md").read_text()
    tokenizer = AutoTokenizer.from_pretrained(artifact.folder)
    assert tokenizer("teach").input_ids == tiny_tokenizer()("teach").input_ids
    assert artifact.parameters == sum(p.numel() for p in chain.parameters())


def test_export_replaces_an_export_and_nothing_else(
    artifact: HuggingFaceArtifact, chain: DecoderChain, tmp_path: Path
) -> None:
    export_huggingface(tiny_chain(seed=5), None, artifact.folder, name="second")
    assert "# second" in (artifact.folder / "README.md").read_text()
    assert not (artifact.folder / "tokenizer.json").exists()
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").touch()
    with pytest.raises(ArtifactError, match="not an exported student"):
        export_huggingface(chain, None, other, name="tiny")


def test_interrupted_export_leaves_the_old_one(
    artifact: HuggingFaceArtifact, chain: DecoderChain
) -> None:
    class FullDisk:
        pad_token_id = None

        def save_pretrained(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    before = (artifact.folder / "config.json").read_bytes()
    with pytest.raises(PassError, match="No space left"):
        export_huggingface(chain, FullDisk(), artifact.folder, name="tiny")
    assert (artifact.folder / "config.json").read_bytes() == before
    assert [path.name for path in artifact.folder.parent.iterdir()] == ["student"]


def test_load_names_what_is_wrong(artifact: HuggingFaceArtifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no config\.json"):
        load_student(tmp_path)
    weights = artifact.folder / "model.safetensors"
    stored = load_file(weights)
    _save(weights, {**stored, "model.layers.0.mlp.extra": torch.zeros(1)})
    with pytest.raises(ArtifactError, match=r"mlp\.extra has no place"):
        load_student(artifact.folder)
    _save(weights, {**stored, "model.norm.weight": torch.zeros(3)})
    with pytest.raises(ArtifactError, match=r"model\.norm\.weight has shape \[3\]"):
        load_student(artifact.folder)
    _save(weights, {name: value for name, value in stored.items() if "norm" not in name})
    with pytest.raises(ArtifactError, match="the weights lack"):
        load_student(artifact.folder)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="missing or torn"):
        load_student(artifact.folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "llama"),
        ("num_hidden_layers", 0),
        ("per_layer_config", {"9": {"skip": ["mlp"]}}),
        ("hidden_size", "wide"),
    ],
)
def test_load_refuses_a_foreign_configuration(
    artifact: HuggingFaceArtifact, key: str, value: object
) -> None:
    path = artifact.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ArtifactError, match=r"config\.json: not that of an exported student"):
        load_student(artifact.folder)


def test_teachers_own_block_is_not_an_override(tmp_path: Path) -> None:
    spelled = Architecture(choices={"layers.1.attention": GroupedQueryAttention(kv_heads=2)})
    artifact = export_huggingface(tiny_chain(architecture=spelled), None, tmp_path / "s", name="s")
    assert "per_layer_config" not in json.loads((artifact.folder / "config.json").read_text())


_ALONE = """
import sys
sys.modules["nas"] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
inputs = tokenizer(["teach", "student"], return_tensors="pt", padding=True, padding_side="left")
model.generation_config.eos_token_id = None
print(model.generate(**inputs, max_new_tokens=6, do_sample=False)[:, -6:].tolist())
"""


def test_folder_loads_without_nas(
    artifact: HuggingFaceArtifact, chain: DecoderChain, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", _ALONE, str(artifact.folder)],
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    encoded = tiny_tokenizer()(["teach", "student"]).input_ids
    expected = [greedy_tokens(chain, torch.tensor([ids]), 6)[0].tolist() for ids in encoded]
    assert json.loads(done.stdout) == expected


def _generate(model: Any, ids: Tensor, **settings: Any) -> Tensor:
    model.generation_config.eos_token_id = None
    settings.setdefault("attention_mask", torch.ones_like(ids))
    generated: Tensor = model.generate(ids, max_new_tokens=16, do_sample=False, **settings)
    return generated[:, ids.shape[1] :]


def _save(path: Path, weights: dict[str, Tensor]) -> None:
    save_file({k: v.clone() for k, v in weights.items()}, path, metadata={"format": "pt"})
