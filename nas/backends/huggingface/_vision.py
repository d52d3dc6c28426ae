"""Transformers over pictures as folders that transformers loads, and their gate.

A student whose layers are alike is a plain ViT, which needs no code of ours: layers left out
whole, and one feed-forward width in all others. Any other brings its code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nas._quiet import quiet
from nas.backends.huggingface._artifact import HuggingFaceArtifact
from nas.backends.huggingface._card import vision_card
from nas.backends.huggingface._export import code_path
from nas.backends.huggingface._folder import replaced_folder
from nas.chain import VisionChain, normalised
from nas.errors import PassError
from nas.ir import (
    BlockSpec,
    FeedForward,
    GroupedQueryAttention,
    Skip,
    VisionShape,
    in_float,
)

CODE = ("configuration_nas_vision.py", "modeling_nas_vision.py")
MARKER = "nas_student.json"
_AUTO_MAP = {
    "AutoConfig": "configuration_nas_vision.NasVisionConfig",
    "AutoModel": "modeling_nas_vision.NasVisionModel",
}
_AUTO_MAP_CLASSES = {
    "AutoModelForImageClassification": "modeling_nas_vision.NasVisionForImageClassification"
}
_OUTER = {
    "embed": "embeddings",
    "embed.projection": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_LAYER = (
    {
        "norm": "layernorm_before",
        "branch.q_proj": "attention.attention.query",
        "branch.k_proj": "attention.attention.key",
        "branch.v_proj": "attention.attention.value",
        "branch.o_proj": "attention.output.dense",
    },
    {
        "norm": "layernorm_after",
        "branch.up_proj": "intermediate.dense",
        "branch.down_proj": "output.dense",
    },
)


def export_vision_folder(
    chain: VisionChain,
    folder: Path,
    *,
    name: str,
    preprocessing: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
) -> HuggingFaceArtifact:
    """Write weights, configuration, preprocessing, model card and, unless the student is a plain
    ViT, its code to `folder`.

    `preprocessing`: the teacher's resizing and cropping, in the keys of preprocessor_config.json;
    without it pictures are resized to the side that the network takes. `labels` names all classes.
    The folder appears complete or not at all; raises PassError when it cannot be written and
    ArtifactError when something else lies there.
    """
    dtype = str(chain.dtype).removeprefix("torch.")
    plain = plain_layers(chain)
    with replaced_folder(folder) as fresh:
        named = _labels(chain.shape, labels)
        config = (
            _own_config(chain, dtype, named)
            if plain is None
            else _plain_config(chain, plain, dtype, named)
        )
        state = _own_state(chain) if plain is None else _plain_state(chain, plain)
        tensors = {n: t.detach().cpu().contiguous() for n, t in state.items()}
        save_file(tensors, fresh / "model.safetensors", metadata={"format": "pt"})
        _write(fresh / "config.json", config)
        _write(fresh / "preprocessor_config.json", _preprocessing(chain.shape, preprocessing))
        for code in CODE if plain is None else ():
            shutil.copyfile(code_path(code), fresh / code)
        card = vision_card(chain, name, dtype, plain=plain is not None)
        (fresh / "README.md").write_text(card, encoding="utf-8")
        _write(fresh / MARKER, chain.shape.model_dump(mode="json"))
        files = tuple(sorted(str(p.relative_to(fresh)) for p in fresh.rglob("*") if p.is_file()))
    parameters = sum(parameter.numel() for parameter in chain.parameters())
    return HuggingFaceArtifact(folder, files, dtype, parameters)


def plain_layers(chain: VisionChain) -> list[int] | None:
    """The layers that are left, where the student is one that `ViTForImageClassification` or
    `ViTModel` (with a second token DeiT's) express; None where it is not."""
    shape = chain.shape
    if shape.pooling != "cls" or shape.pools_first:
        return None
    blocks = _blocks(chain)
    kept = [layer for layer, (a, f) in enumerate(blocks) if not a == f == Skip()]
    own = GroupedQueryAttention(kv_heads=shape.kv_heads)
    widths = set()
    for attention, feed_forward in (blocks[layer] for layer in kept):
        if attention != own or not isinstance(feed_forward, FeedForward):
            return None
        widths.add(feed_forward.width)
    return kept if len(widths) == 1 else None


def _blocks(chain: VisionChain) -> list[tuple[BlockSpec, BlockSpec]]:
    shape = chain.shape
    specs = [_full_heads(shape, shape.resolve(s, b)) for s, b in chain.architecture.items(shape)]
    return list(zip(specs[::2], specs[1::2], strict=True))


def _full_heads(shape: VisionShape, spec: BlockSpec) -> BlockSpec:
    """`spec` in floating point; all heads are told by None."""
    spec = in_float(spec)
    if isinstance(spec, GroupedQueryAttention) and spec.query_heads == shape.query_heads:
        return spec.model_copy(update={"query_heads": None})
    return spec


def _own_config(chain: VisionChain, dtype: str, labels: dict[str, Any]) -> dict[str, Any]:
    from nas.backends.huggingface.remote.configuration_nas_vision import NasVisionConfig

    shape = chain.shape
    kind = "NasVisionForImageClassification" if shape.classes else "NasVisionModel"
    config = NasVisionConfig(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        head_dim=shape.head_dim,
        blocks=[_described(shape, spec) for pair in _blocks(chain) for spec in pair],
        qkv_bias=shape.qkv_bias,
        hidden_act=shape.activation,
        image_size=shape.image_side,
        patch_size=shape.patch_side,
        prefix_tokens=shape.prefix_tokens,
        pooling=shape.pooling,
        pools_first=shape.pools_first,
        layer_norm_eps=shape.norm_eps,
        teacher_family=shape.family,
        dtype=dtype,
        architectures=[kind],
        **labels,
    )
    everything = config.to_dict()
    own = {key: everything[key] for key in type(config).__annotations__}
    auto_map = _AUTO_MAP | (_AUTO_MAP_CLASSES if shape.classes else {})
    return {**config.to_diff_dict(), **own, "auto_map": auto_map}


def _described(shape: VisionShape, spec: BlockSpec) -> dict[str, Any]:
    match spec:
        case GroupedQueryAttention(kv_heads=kv_heads, query_heads=query_heads):
            heads = shape.query_heads if query_heads is None else query_heads
            return {"kind": "gqa", "query_heads": heads, "kv_heads": kv_heads}
        case FeedForward(width=width):
            return {"kind": "ffn", "width": width}
    return {"kind": spec.kind}


def _labels(shape: VisionShape, names: Sequence[str]) -> dict[str, Any]:
    if not names or len(names) != shape.classes:
        return {"num_labels": shape.classes} if shape.classes else {}
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }


def _own_state(chain: VisionChain) -> dict[str, Tensor]:
    """The chain's own names; the classifier with its bias apart."""
    state = dict(chain.state_dict())
    return state if chain.head is None else state | _classifier(state.pop("head.weight"))


def _classifier(head: Tensor) -> dict[str, Tensor]:
    return {"classifier.weight": head[:, :-1], "classifier.bias": head[:, -1]}


def _plain_config(
    chain: VisionChain, layers: list[int], dtype: str, labels: dict[str, Any]
) -> dict[str, Any]:
    from transformers import DeiTConfig, ViTConfig

    shape = chain.shape
    ours, theirs = ("ViT", ViTConfig) if shape.prefix_tokens == 1 else ("DeiT", DeiTConfig)
    width = next(f.width for _, f in _blocks(chain) if isinstance(f, FeedForward))
    config = theirs(
        hidden_size=shape.hidden_size,
        num_hidden_layers=len(layers),
        num_attention_heads=shape.query_heads,
        intermediate_size=width,
        hidden_act=shape.activation,
        layer_norm_eps=shape.norm_eps,
        image_size=shape.image_side,
        patch_size=shape.patch_side,
        qkv_bias=shape.qkv_bias,
        architectures=[f"{ours}{'ForImageClassification' if shape.classes else 'Model'}"],
        dtype=dtype,
        **labels,
    )
    found: dict[str, Any] = {**config.to_dict(), "dtype": dtype}
    return found


def _plain_state(chain: VisionChain, layers: list[int]) -> dict[str, Tensor]:
    shape = chain.shape
    prefix = ("vit." if shape.prefix_tokens == 1 else "deit.") if shape.classes else ""
    state = dict(chain.state_dict())
    found = {} if chain.head is None else _classifier(state.pop("head.weight"))
    for own, tensor in state.items():
        stem, _, leaf = own.rpartition(".")
        if not stem.startswith("slots."):
            found[f"{prefix}{_OUTER[stem]}.{leaf}"] = tensor
            continue
        _, slot, part = stem.split(".", 2)
        layer, kind = divmod(int(slot), 2)
        place = f"encoder.layer.{layers.index(layer)}.{_LAYER[kind][part]}"
        found[f"{prefix}{place}.{leaf}"] = tensor
    if not shape.classes:  # its pooler is asked for, and is nothing here
        found["pooler.dense.weight"] = torch.zeros(shape.hidden_size, shape.hidden_size)
        found["pooler.dense.bias"] = torch.zeros(shape.hidden_size)
    return found


def _preprocessing(shape: VisionShape, teacher: Mapping[str, Any] | None) -> dict[str, Any]:
    """What image processors of transformers read: the teacher's ways, its mean and deviation."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": shape.image_side, "width": shape.image_side},
        **(teacher or {"resample": 3}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(shape.image_mean),
        "image_std": list(shape.image_std),
    }


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@torch.no_grad()
def check_vision_folder(
    folder: Path, chain: VisionChain, pictures: Tensor, *, tolerance: float = 1e-4
) -> float:
    """Largest difference of logits, or embeddings, between a model loaded from the folder and the
    chain, in float32, on pictures uint8 [batch, 3, side, side].

    Raises PassError, with the difference, when it is above `tolerance`, or where the code files in
    the folder are not the ones nas ships.
    """
    plain, said = chain.in_dtype(torch.float32), _loaded(folder, chain)
    values = normalised(pictures.to(chain.device), chain.shape)
    worst = float((said(values) - plain(values)).abs().max())
    if not worst <= tolerance:
        what = "embeddings" if chain.shape.embeds else "logits"
        raise PassError(
            f"{folder}: {what} differ from the student's by {worst:.3g} (at most {tolerance:g}); "
            f"the export is wrong, do not use it"
        )
    return worst


def _loaded(folder: Path, chain: VisionChain) -> Any:
    """The folder's model as a function of normalised pictures."""
    classes = bool(chain.shape.classes)
    if plain_layers(chain) is not None:
        from transformers import AutoModel, AutoModelForImageClassification

        kind: Any = AutoModelForImageClassification if classes else AutoModel
        own = False
    else:
        from nas.backends.huggingface.remote import modeling_nas_vision as code

        for file in CODE:
            if (folder / file).read_bytes() != code_path(file).read_bytes():
                raise PassError(f"{folder / file} is not what nas ships; export it again")
        kind = code.NasVisionForImageClassification if classes else code.NasVisionModel
        own = True
    with quiet():
        model = kind.from_pretrained(folder, dtype=torch.float32)
    model = model.to(chain.device).eval()
    if classes:
        return lambda values: model(values).logits
    if own:
        return lambda values: model(values).pooler_output
    return lambda values: model(values).last_hidden_state[:, 0]
