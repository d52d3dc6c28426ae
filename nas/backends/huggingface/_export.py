"""Writing a student as a folder that transformers loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from nas.backends.huggingface import remote
from nas.backends.huggingface._artifact import HuggingFaceArtifact
from nas.backends.huggingface._card import model_card
from nas.backends.huggingface._config import to_config
from nas.backends.huggingface._folder import replaced_folder
from nas.backends.huggingface._names import exported_name
from nas.chain import DecoderChain

SHARD_BYTES = 5 * 10**9
CODE_FILES = ("configuration_nas.py", "modeling_nas.py")

_AUTO_MAP = {
    "AutoConfig": "configuration_nas.NasConfig",
    "AutoModel": "modeling_nas.NasModel",
    "AutoModelForCausalLM": "modeling_nas.NasForCausalLM",
}


def export_huggingface(
    chain: DecoderChain, tokenizer: Any, folder: Path, *, name: str, shard_bytes: int = SHARD_BYTES
) -> HuggingFaceArtifact:
    """Write weights, configuration, tokenizer, code and model card to `folder`.

    The weights keep the chain's number format; files above `shard_bytes` are split. `tokenizer` is
    one of transformers, or None for a student without. The folder appears complete or not at all;
    raises PassError when it cannot be written and ArtifactError when something else lies there.
    """
    dtype = str(chain.dtype).removeprefix("torch.")
    pad = None if tokenizer is None else tokenizer.pad_token_id
    with replaced_folder(folder) as fresh:
        _write_weights(chain, fresh, shard_bytes)
        _write_configs(chain, fresh, dtype, pad)
        for code in CODE_FILES:
            shutil.copyfile(code_path(code), fresh / code)
        if tokenizer is not None:
            tokenizer.save_pretrained(fresh)
        (fresh / "README.md").write_text(model_card(chain, name, dtype), encoding="utf-8")
        files = tuple(sorted(str(p.relative_to(fresh)) for p in fresh.rglob("*") if p.is_file()))
    parameters = sum(parameter.numel() for parameter in chain.parameters())
    return HuggingFaceArtifact(folder, files, dtype, parameters)


def code_path(name: str) -> Path:
    """Where nas keeps a code file that travels with the student."""
    return Path(remote.__path__[0]) / name


def _write_weights(chain: DecoderChain, folder: Path, shard_bytes: int) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards

    state = exported_state(chain)
    split = split_torch_state_dict_into_shards(state, max_shard_size=shard_bytes)
    for filename, names in split.filename_to_tensors.items():
        shard = {name: state[name].contiguous() for name in names}
        save_file(shard, folder / filename, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        _write_json(folder / "model.safetensors.index.json", index)


def exported_state(chain: DecoderChain) -> dict[str, Tensor]:
    """The chain's weights under their exported names; a tied head is left out."""
    state = {exported_name(name): tensor.detach() for name, tensor in chain.state_dict().items()}
    if chain.shape.tied_embeddings:
        del state["lm_head.weight"]
    return state


def _write_configs(chain: DecoderChain, folder: Path, dtype: str, pad: int | None) -> None:
    from transformers import GenerationConfig

    config = to_config(chain.shape, chain.architecture, dtype=dtype, pad_token_id=pad)
    # all of our fields, defaults too: an old folder must not change its meaning with a new default
    everything = config.to_dict()
    own = {key: everything[key] for key in type(config).__annotations__}
    _write_json(folder / "config.json", {**config.to_diff_dict(), **own, "auto_map": _AUTO_MAP})
    eos = config.eos_token_id
    generation = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=eos, pad_token_id=pad
    )
    generation.save_pretrained(folder)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
