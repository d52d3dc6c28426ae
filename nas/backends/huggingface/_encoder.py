"""Encoders as folders that transformers and sentence-transformers load, and their gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nas._quiet import quiet
from nas.backends.huggingface._artifact import HuggingFaceArtifact
from nas.backends.huggingface._card import encoder_card
from nas.backends.huggingface._export import code_path
from nas.backends.huggingface._folder import replaced_folder
from nas.chain import EncoderChain
from nas.errors import PassError
from nas.ir import BlockSpec, EncoderShape, FeedForward, GroupedQueryAttention

if TYPE_CHECKING:
    from nas.backends.huggingface.remote.configuration_nas_encoder import NasEncoderConfig

_CODE = ("configuration_nas_encoder.py", "modeling_nas_encoder.py")
_AUTO_MAP = {
    "AutoConfig": "configuration_nas_encoder.NasEncoderConfig",
    "AutoModel": "modeling_nas_encoder.NasEncoderModel",
}
_AUTO_MAP_MASKED = {"AutoModelForMaskedLM": "modeling_nas_encoder.NasEncoderForMaskedLM"}


def export_encoder_folder(
    chain: EncoderChain, tokenizer: Any, folder: Path, *, name: str
) -> HuggingFaceArtifact:
    """Write weights, configuration, tokenizer, code, model card and, for embeddings, the modules
    that sentence-transformers reads to `folder`.

    The folder appears complete or not at all; raises PassError when it cannot be written and
    ArtifactError when something else lies there.
    """
    dtype = str(chain.dtype).removeprefix("torch.")
    with replaced_folder(folder) as fresh:
        state = {n: t.detach().contiguous() for n, t in chain.state_dict().items()}
        save_file(state, fresh / "model.safetensors", metadata={"format": "pt"})
        config = encoder_config(chain, dtype, tokenizer.pad_token_id)
        everything = config.to_dict()
        own = {key: everything[key] for key in type(config).__annotations__}
        auto_map = _AUTO_MAP | (_AUTO_MAP_MASKED if chain.shape.masked_head else {})
        _write(fresh / "config.json", {**config.to_diff_dict(), **own, "auto_map": auto_map})
        if not chain.shape.masked_head:
            _write_modules(chain, fresh)
        for code in _CODE:
            shutil.copyfile(code_path(code), fresh / code)
        tokenizer.save_pretrained(fresh)
        (fresh / "README.md").write_text(encoder_card(chain, name, dtype), encoding="utf-8")
        files = tuple(sorted(str(p.relative_to(fresh)) for p in fresh.rglob("*") if p.is_file()))
    parameters = sum(parameter.numel() for parameter in chain.parameters())
    return HuggingFaceArtifact(folder, files, dtype, parameters)


def encoder_config(chain: EncoderChain, dtype: str, pad_token_id: int | None) -> NasEncoderConfig:
    """The configuration of a student; `dtype` such as `float32`."""
    from nas.backends.huggingface.remote.configuration_nas_encoder import NasEncoderConfig

    shape = chain.shape
    resolved = (shape.resolve(slot, spec) for slot, spec in chain.architecture.items(shape))
    return NasEncoderConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        head_dim=shape.head_dim,
        blocks=[_block(shape, spec) for spec in resolved],
        qkv_bias=shape.qkv_bias,
        output_bias=shape.output_bias,
        ffn_bias=shape.ffn_bias,
        hidden_act=shape.activation,
        max_position_embeddings=shape.max_positions,
        type_vocab_size=shape.type_vocab_size,
        layer_norm_eps=shape.norm_eps,
        pad_token_id=pad_token_id,
        pooling=shape.pooling,
        normalised=shape.normalised,
        masked_head=shape.masked_head,
        teacher_family=shape.family,
        dtype=dtype,
        architectures=["NasEncoderForMaskedLM" if shape.masked_head else "NasEncoderModel"],
    )


def _block(shape: EncoderShape, spec: BlockSpec) -> dict[str, Any]:
    match spec:
        case GroupedQueryAttention(kv_heads=kv_heads, query_heads=query_heads):
            heads = shape.query_heads if query_heads is None else query_heads
            return {"kind": "gqa", "query_heads": heads, "kv_heads": kv_heads}
        case FeedForward(width=width):
            return {"kind": "ffn", "width": width}
    return {"kind": spec.kind}


def _write_modules(chain: EncoderChain, folder: Path) -> None:
    """What sentence-transformers reads beside the model: pooling, and whether to normalise."""
    shape = chain.shape
    kinds = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    kinds += [("2", "2_Normalize", "Normalize")] if shape.normalised else []
    listing = [
        {"idx": int(i), "name": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, path, kind in kinds
    ]
    _write(folder / "modules.json", listing)
    _write(
        folder / "sentence_bert_config.json",
        {"max_seq_length": shape.max_positions, "do_lower_case": False},
    )
    (folder / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": shape.hidden_size,
        "pooling_mode_mean_tokens": shape.pooling == "mean",
        "pooling_mode_cls_token": shape.pooling == "cls",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    _write(folder / "1_Pooling" / "config.json", pooling)
    if shape.normalised:
        (folder / "2_Normalize").mkdir()
        _write(folder / "2_Normalize" / "config.json", {})


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@torch.no_grad()
def check_encoder_folder(
    folder: Path, chain: EncoderChain, ids: Tensor, *, tolerance: float = 1e-4
) -> float:
    """Largest difference of embeddings, or logits, between a model loaded from the folder and the
    chain, in float32, on ids [batch, tokens] as they are and with padding on the right.

    Raises PassError, with the difference, when it is above `tolerance`, or where the code files in
    the folder are not the ones nas ships.
    """
    from nas.backends.huggingface.remote.modeling_nas_encoder import (
        NasEncoderForMaskedLM,
        NasEncoderModel,
    )

    for code in _CODE:
        if (folder / code).read_bytes() != code_path(code).read_bytes():
            raise PassError(f"{folder / code} is not what nas ships; export it again")
    kind = NasEncoderForMaskedLM if chain.shape.masked_head else NasEncoderModel
    with quiet():
        model = kind.from_pretrained(folder, dtype=torch.float32)
    model = model.to(chain.device).eval()
    plain = chain.in_dtype(torch.float32)
    ids = ids.to(chain.device)
    padded = torch.ones_like(ids)
    padded[::2, ids.shape[1] // 2 :] = 0
    worst = 0.0
    for mask in (torch.ones_like(ids), padded):
        theirs, ours = model(ids, attention_mask=mask), plain(ids, mask)
        if chain.shape.masked_head:
            seen = mask.bool()
            theirs, ours = theirs.logits[seen], plain.logits(ours)[seen]
        else:
            theirs, ours = chain.pool(theirs.last_hidden_state, mask), chain.pool(ours, mask)
        worst = max(worst, float((theirs - ours).abs().max()))
    if not worst <= tolerance:
        raise PassError(
            f"{folder}: {_answers(chain)} differ from the student's by {worst:.3g} (at most "
            f"{tolerance:g}); the export is wrong, do not use it"
        )
    return worst


def _answers(chain: EncoderChain) -> str:
    return "logits" if chain.shape.masked_head else "embeddings"
