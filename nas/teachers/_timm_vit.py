"""ViTs as timm writes them (`blocks.0.attn.qkv`, `patch_embed.proj`, `head`), from a single file or
its folders.

Queries, keys and values are stored in one layer; the scale of a branch's channels (`ls1.gamma`) is
folded into the layer before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from nas._documents import brief
from nas.config import ImageConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import VisionShape
from nas.teachers._base import Stored, TeacherSource
from nas.teachers._digest import digest_files
from nas.teachers._names import Layout
from nas.teachers._plain import stored_sizes
from nas.teachers._preprocessing import (
    channels,
    class_names,
    timm_preprocessing,
    with_image,
)
from nas.teachers._vit import head_of

_EPSILON = 1e-6
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HEAD_CHANNELS = 64
_HEADS_BY_WIDTH = {1280: 16, 1408: 16, 1664: 16}
"""Of the widths that do not have heads of 64 channels in timm."""

_KNOWN = re.compile(
    r"(cls_token|dist_token|pos_embed|(patch_embed\.proj|norm|fc_norm|head|head_dist)\.(weight|bias)"
    r"|blocks\.[0-9]{1,5}\.((norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
    r"|ls[12]\.gamma))"
)
_NEEDS = {
    "reg_token": "register tokens before the patches",
    "norm_pre": "a norm behind the patches",
    "patch_embed.norm": "a norm behind the patches",
    "patch_embed.backbone": "a stem of convolutions",
    "q_norm": "norms of queries and keys",
    "k_norm": "norms of queries and keys",
    "q_bias": "biases of queries and values without those of keys",
    "rel_pos": "positions relative to each other in attention",
    "relative_position": "positions relative to each other in attention",
    "rope": "rotary positions over pictures",
    "w12": "a feed-forward with a gate (SwiGLU)",
    "fc1_g": "a feed-forward with a gate (SwiGLU)",
    "mlp.norm": "a norm inside the feed-forward",
    "attn.norm": "a norm inside attention",
    "attn_pool": "pooling by attention",
    "pre_logits": "a layer before the classifier",
}
_NEEDS_BY_NAME = {
    "clip": "another activation than GELU",
    "siglip": "another activation than GELU",
    "quickgelu": "another activation than GELU",
    "rpn": "norms behind the branches",
}
"""Parts of architectures' names: what such networks need that their weights do not tell."""

_LAYOUT = Layout(
    outer={"embed.projection": "patch_embed.proj", "head": "head", "head_distilled": "head_dist"},
    layer="blocks.{layer}",
    attention={
        "norm": "norm1",
        **{f"branch.{x}_proj": "attn.qkv" for x in ("q", "k", "v")},
        "branch.o_proj": "attn.proj",
        "branch.scale": "ls1",
    },
    ffn={
        "norm": "norm2",
        "branch.up_proj": "mlp.fc1",
        "branch.down_proj": "mlp.fc2",
        "branch.scale": "ls2",
    },
)
_EMBEDDING = {
    "embed.cls_token": "cls_token",
    "embed.distillation_token": "dist_token",
    "embed.position_embeddings": "pos_embed",
}


def is_timm_vit(names: Set[str]) -> bool:
    """Whether stored tensors are spelt as those of a transformer over pictures in timm."""
    return {"patch_embed.proj.weight", "blocks.0.norm1.weight"} <= set(names)


class TimmVitSource(TeacherSource):
    """`described`: the folder's config.json, where there is one."""

    def __init__(
        self,
        path: Path,
        image: ImageConfig | None = None,
        described: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.image, self.described = path, image, dict(described or {})

    def shape(self) -> VisionShape:
        return self._shape

    def tensor_names(self) -> Set[str]:
        return self._sizes.keys()

    def foreign_name(self, name: str) -> str:
        if name in _EMBEDDING:
            return _EMBEDDING[name]
        if name.startswith("norm."):
            return name.replace("norm.", f"{self._last_norm}.")
        return _LAYOUT.foreign(name)

    def read(self, name: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
        except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"{self.path}: {brief(name)} cannot be read ({error}); fetch it again"
            ) from error
        return tensor

    def parameter(self, name: str, stored: Stored) -> Tensor:
        if name == "head.weight":
            return head_of(self._shape, stored)
        tensor = stored(name)
        if name == "embed.position_embeddings":  # those of the prefix may be none
            missing = self._shape.places - tensor.shape[1]
            return torch.nn.functional.pad(tensor, (0, 0, missing, 0))
        owner, _, layer = name.rpartition(".")[0].rpartition(".")
        if layer in ("q_proj", "k_proj", "v_proj"):
            return tensor.chunk(3)["qkv".index(layer[0])].clone()
        if layer in ("o_proj", "down_proj") and self._scaled:
            scale = stored(f"{owner}.scale.gamma")
            return tensor * (scale if tensor.ndim == 1 else scale[:, None])
        return tensor

    def ignorable(self, name: str) -> bool:
        return False

    def tokenizer(self) -> Any:
        raise ConfigError(f"{self.path}: a network over pictures has no tokenizer")

    def preprocessing(self) -> dict[str, Any]:
        given = self._pretrained()
        where = self.path.parent / "config.json"
        return timm_preprocessing(given, self._shape.image_side, where) if given else {}

    def labels(self) -> tuple[str, ...]:
        return class_names(self.described.get("label_names"), self._shape.classes)

    def digest(self) -> str:
        beside = self.path.parent / "config.json"
        return digest_files([self.path, *([beside] if self.described else [])])

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, ...]]:
        return stored_sizes(self.path)

    @property
    def _scaled(self) -> bool:
        return "blocks.0.ls1.gamma" in self._sizes

    @property
    def _last_norm(self) -> str:
        return "fc_norm" if "fc_norm.weight" in self._sizes else "norm"

    @cached_property
    def _shape(self) -> VisionShape:
        self._refuse()
        try:
            return with_image(self._read_shape(), self.image, str(self.path))
        except ValidationError as error:
            problem = error.errors()[0]
            raise CapabilityError(
                f"{self.path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            ) from error

    def _refuse(self) -> None:
        """Raise CapabilityError for what a chain has no place for, by name."""
        if strange := sorted(name for name in self._sizes if not _KNOWN.fullmatch(name)):
            why = next((n for part, n in _NEEDS.items() if part in strange[0]), "a place for it")
            raise CapabilityError(
                f"{self.path}: the weights hold {strange[0]} ({len(strange)} tensors in all), "
                f"which a chain of attention and feed-forward slots over patches has no place for; "
                f"it would need {why}"
            )
        if {"norm.weight", "fc_norm.weight"} <= self._sizes.keys():
            raise CapabilityError(
                f"{self.path}: norm and fc_norm: it would need two norms behind the last block"
            )
        if ("dist_token" in self._sizes) != ("head_dist.weight" in self._sizes):
            raise CapabilityError(
                f"{self.path}: a distillation token and its classifier (dist_token, head_dist) go "
                f"together; with one of them it would need another way of reading the last states"
            )
        name = str(self.described.get("architecture", ""))
        needs = {need for part, need in _NEEDS_BY_NAME.items() if part in name}
        if self._arguments().get("act_layer", "gelu") != "gelu":
            needs.add("another activation than GELU")
        if needs:
            raise CapabilityError(
                f"{self.path}: {brief(name)} would need {min(needs)}, which its weights do not tell"
            )

    def _read_shape(self) -> VisionShape:
        hidden, colours, side, _ = self._size("patch_embed.proj.weight", 4)
        if colours != 3:
            raise CapabilityError(f"{self.path}: pictures of {colours} channels; nas takes three")
        blocks = {int(name.split(".")[1]) for name in self._sizes if name.startswith("blocks.")}
        width = self._size("blocks.0.mlp.fc1.weight", 2)[0]
        if self._size("blocks.0.mlp.fc2.weight", 2)[1] != width:
            raise CapabilityError(
                f"{self.path}: mlp.fc1 gives {width} channels and mlp.fc2 reads others: it would "
                f"need a feed-forward with a gate (SwiGLU)"
            )
        heads = self._heads(hidden)
        prefix = sum(name in self._sizes for name in ("cls_token", "dist_token"))
        classes = self._size("head.weight", 2)[0] if "head.weight" in self._sizes else 0
        mean, std = self._normalisation()
        return VisionShape(
            family="vit",
            layers=max(blocks) + 1,
            hidden_size=hidden,
            query_heads=heads,
            kv_heads=heads,
            head_dim=hidden // heads,
            ffn_width=width,
            qkv_bias="blocks.0.attn.qkv.bias" in self._sizes,
            output_bias=True,
            ffn_bias=True,
            norm_eps=_EPSILON,
            activation="gelu",
            patch_side=side,
            prefix_tokens=prefix,
            pooling=self._pooling(prefix),
            pools_first=self._last_norm == "fc_norm",
            classes=classes,
            image_side=side * self._grid(prefix),
            image_mean=mean,
            image_std=std,
        )

    def _size(self, name: str, dims: int) -> tuple[int, ...]:
        size = self._sizes.get(name, ())
        if len(size) != dims or not all(size):
            raise CapabilityError(f"{self.path}: {name} is {list(size) or 'missing'}")
        return size

    def _grid(self, prefix: int) -> int:
        """Patches along a side, from the number of positions."""
        positions = self._size("pos_embed", 3)[1]
        for patches in (positions - prefix, positions):
            side = math.isqrt(max(patches, 0))
            if side and side**2 == patches:
                return side
        raise CapabilityError(
            f"{self.path}: {positions} positions with {prefix} tokens before the patches are not "
            f"those of a square picture"
        )

    def _heads(self, hidden: int) -> int:
        """Weights do not tell: what timm's config.json says, or what timm's models have."""
        given = self._arguments().get("num_heads", _HEADS_BY_WIDTH.get(hidden))
        if given is None and hidden % _HEAD_CHANNELS == 0:
            given = hidden // _HEAD_CHANNELS
        heads: int = given if isinstance(given, int) else 0
        if heads < 1 or hidden % heads:
            raise ConfigError(
                f"{self.path}: {hidden} channels do not tell how many heads there are; put a "
                f'config.json beside it that does: {{"model_args": {{"num_heads": 4}}}}'
            )
        return heads

    def _arguments(self) -> Mapping[str, Any]:
        found = self.described.get("model_args")
        return found if isinstance(found, dict) else {}

    def _pooling(self, prefix: int) -> Literal["cls", "both", "mean"]:
        if prefix == 2:
            return "both"
        default = "avg" if self._last_norm == "fc_norm" or not prefix else "token"
        named = self.described.get("global_pool") or default
        known: dict[str, Literal["cls", "mean"]] = {"token": "cls", "avg": "mean"}
        if not isinstance(named, str) or named not in known:
            raise CapabilityError(
                f"{self.path}: global_pool {brief(named)} is not supported; supported: the class "
                f"token (token), or the mean over the patches (avg)"
            )
        return known[named]

    def _normalisation(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        given = self._pretrained()
        where = self.path.parent / "config.json"
        return channels(given.get("mean", _MEAN), where), channels(given.get("std", _STD), where)

    def _pretrained(self) -> Mapping[str, Any]:
        given = self.described.get("pretrained_cfg")
        return given if isinstance(given, dict) else {}
