"""Encoders of like layers as plain BERTs: transformers and sentence-transformers load them without
code of ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from nas._quiet import quiet
from nas.backends.huggingface._artifact import HuggingFaceArtifact
from nas.backends.huggingface._encoder import _write_modules
from nas.backends.huggingface._folder import replaced_folder
from nas.chain import EncoderChain
from nas.errors import CapabilityError, PassError
from nas.ir import EncoderShape

MARKER = "nas_student.json"
_OUTER = {
    "embed": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "embed_norm": "embeddings.LayerNorm",
}
_LAYER = (
    {
        "norm": "attention.output.LayerNorm",
        "q_proj": "attention.self.query",
        "k_proj": "attention.self.key",
        "v_proj": "attention.self.value",
        "o_proj": "attention.output.dense",
    },
    {"norm": "output.LayerNorm", "up_proj": "intermediate.dense", "down_proj": "output.dense"},
)
_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [nas, distillation]
---

# {name}

A plain BERT of {layers} layers, width {hidden}, FFN width {width}, distilled by nas from a {family}
teacher: a subnet that was found in a SuperLM (AutoDistil, arXiv 2201.12507). {heads}

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
print(model.encode(["A text.", "Another."]).shape)
```

The weights of BERT's pooler are zero: an embedding is read from the states of the tokens.
"""


def export_bert_folder(
    chain: EncoderChain, tokenizer: Any, folder: Path, *, name: str
) -> HuggingFaceArtifact:
    """Write a `BertModel` with tokenizer, model card and the modules of sentence-transformers.

    BERT's heads share its width evenly. Where the student's do not, heads of zeros, and zeros
    within heads, are added: the function is the same, at the cost of computing them (an ONNX export
    of `chain` has none). Raises CapabilityError where no number of heads fits, or blocks are not
    like in all layers; PassError and ArtifactError as the other export does.
    """
    require_like_layers(chain)
    shape = chain.shape
    wide = whole_heads(shape)
    state = {_foreign(n): _padded(n, t, shape, wide) for n, t in chain.state_dict().items()}
    if chain.types is None:
        state["embeddings.token_type_embeddings.weight"] = chain.embed.weight.new_zeros(
            1, shape.hidden_size
        )
    state["pooler.dense.weight"] = chain.embed.weight.new_zeros(
        shape.hidden_size, shape.hidden_size
    )
    state["pooler.dense.bias"] = chain.embed.weight.new_zeros(shape.hidden_size)
    dtype = str(chain.dtype).removeprefix("torch.")
    with replaced_folder(folder) as fresh:
        tensors = {n: t.detach().cpu().contiguous() for n, t in state.items()}
        save_file(tensors, fresh / "model.safetensors", metadata={"format": "pt"})
        _config(wide, dtype, tokenizer.pad_token_id).save_pretrained(fresh)
        _write_modules(chain, fresh)
        tokenizer.save_pretrained(fresh)
        (fresh / "README.md").write_text(_card(shape, wide, name), encoding="utf-8")
        write_marker(fresh / MARKER, shape)
        files = tuple(sorted(str(p.relative_to(fresh)) for p in fresh.rglob("*") if p.is_file()))
    return HuggingFaceArtifact(folder, files, dtype, sum(t.numel() for t in state.values()))


def write_marker(path: Path, shape: EncoderShape) -> None:
    """The student's own shape, and the sign that another export may replace the folder."""
    path.write_text(shape.model_dump_json(indent=2) + "\n", encoding="utf-8")


def require_like_layers(chain: EncoderChain) -> None:
    """Raise CapabilityError unless every slot has the block that the shape says."""
    other = [slot.id for slot in chain.shape.slots() if slot.id in chain.architecture.choices]
    if other:
        raise CapabilityError(
            f"{other[0]} has a block of its own, which a plain BERT has no place for; export the "
            f"folder with code instead"
        )


def whole_heads(shape: EncoderShape) -> EncoderShape:
    """The least number of heads, at least as many and as wide as those of `shape`, that share its
    width evenly; raises CapabilityError where there is none."""
    for heads in range(shape.query_heads, shape.hidden_size // shape.head_dim + 1):
        if shape.hidden_size % heads == 0:
            dim = shape.hidden_size // heads
            return shape.model_copy(
                update={"query_heads": heads, "kv_heads": heads, "head_dim": dim}
            )
    raise CapabilityError(
        f"{shape.query_heads} heads of {shape.head_dim} cannot be filled up to a width of "
        f"{shape.hidden_size}; choose a hidden size that is a multiple of the teacher's heads, or "
        f"export the folder with code"
    )


def _padded(name: str, tensor: Tensor, small: EncoderShape, wide: EncoderShape) -> Tensor:
    """A projection of attention with the heads of `wide`; other tensors as they are."""
    part = name.split(".")[-2]
    if part in ("q_proj", "k_proj", "v_proj"):
        grown = _grown(tensor, 0, small, wide)
        # Scores are divided by the root of the width of a head, zeros included.
        return grown * math.sqrt(wide.head_dim / small.head_dim) if part == "q_proj" else grown
    if part == "o_proj" and tensor.ndim == 2:
        return _grown(tensor, 1, small, wide)
    return tensor


def _grown(tensor: Tensor, dim: int, small: EncoderShape, wide: EncoderShape) -> Tensor:
    heads = tensor.unflatten(dim, (small.query_heads, small.head_dim))
    more = (wide.query_heads - small.query_heads, wide.head_dim - small.head_dim)
    behind = (0, 0) * (heads.ndim - dim - 2)
    return F.pad(heads, (*behind, 0, more[1], 0, more[0])).flatten(dim, dim + 1)


def _foreign(name: str) -> str:
    """The chain's parameter name as BertModel spells it."""
    stem, _, leaf = name.rpartition(".")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{leaf}"
    _, slot, *part = stem.split(".")
    layer, kind = divmod(int(slot), 2)
    return f"encoder.layer.{layer}.{_LAYER[kind][part[-1]]}.{leaf}"


def _config(shape: EncoderShape, dtype: str, pad_token_id: int | None) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        intermediate_size=shape.ffn_width,
        hidden_act=shape.activation,
        max_position_embeddings=shape.max_positions,
        type_vocab_size=max(1, shape.type_vocab_size),
        layer_norm_eps=shape.norm_eps,
        pad_token_id=pad_token_id,
        architectures=["BertModel"],
        dtype=dtype,
    )


def _card(shape: EncoderShape, wide: EncoderShape, name: str) -> str:
    heads = f"{shape.query_heads} heads of {shape.head_dim}."
    if wide != shape:
        heads = (
            f"{shape.query_heads} heads of {shape.head_dim}, filled up with zeros to "
            f"{wide.query_heads} of {wide.head_dim}, as BERT's heads share its width evenly."
        )
    return _CARD.format(
        name=name,
        layers=shape.layers,
        hidden=shape.hidden_size,
        width=shape.ffn_width,
        family=shape.family,
        heads=heads,
    )


@torch.no_grad()
def check_bert_folder(
    folder: Path, chain: EncoderChain, ids: Tensor, *, tolerance: float = 1e-4
) -> float:
    """Largest difference of embeddings between transformers' BertModel from the folder and the
    chain, in float32, on ids [batch, tokens] as they are and with padding on the right.

    Raises PassError, with the difference, when it is above `tolerance`.
    """
    from transformers import BertModel

    with quiet():
        model = BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    plain, ids = chain.in_dtype(torch.float32), ids.cpu()
    padded = torch.ones_like(ids)
    padded[::2, ids.shape[1] // 2 :] = 0
    worst = 0.0
    for mask in (torch.ones_like(ids), padded):
        theirs = chain.pool(model(ids, attention_mask=mask).last_hidden_state, mask)
        ours = chain.pool(plain(ids.to(chain.device), mask.to(chain.device)).cpu(), mask)
        worst = max(worst, float((theirs - ours).abs().max()))
    if not worst <= tolerance:
        raise PassError(
            f"{folder}: embeddings differ from the student's by {worst:.3g} (at most "
            f"{tolerance:g}); the export is wrong, do not use it"
        )
    return worst
