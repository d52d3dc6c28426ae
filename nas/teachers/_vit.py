"""Transformers over pictures in transformers' layout: ViT and DeiT."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from nas.errors import CapabilityError, ConfigError
from nas.ir import ChainShape, VisionShape
from nas.teachers._base import Family, Stored
from nas.teachers._names import Layout

_OUTER = {
    "embed": "embeddings",
    "embed.projection": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "head": "classifier",
}
_NEWER = Layout(
    outer=_OUTER,
    layer="layers.{layer}",
    attention={
        "norm": "layernorm_before",
        **{f"branch.{x}_proj": f"attention.{x}_proj" for x in ("q", "k", "v", "o")},
    },
    ffn={
        "norm": "layernorm_after",
        "branch.up_proj": "mlp.fc1",
        "branch.down_proj": "mlp.fc2",
    },
)
"""The names inside transformers since its fifth version; files have the earlier ones."""


class VitFamily(Family):
    """ViT with one class token, which the classifier reads."""

    model_type = "vit"
    config_class = "ViTConfig"
    model_classes: ClassVar[tuple[str, ...]] = ("ViTModel", "ViTForImageClassification")
    prefix: ClassVar[str] = "vit."
    prefix_tokens: ClassVar[int] = 1
    channel_mean: ClassVar[tuple[float, float, float]] = (0.5, 0.5, 0.5)
    channel_std: ClassVar[tuple[float, float, float]] = (0.5, 0.5, 0.5)
    """What its pictures are normalised by where no file says so."""

    layout = Layout(
        outer=_OUTER,
        layer="encoder.layer.{layer}",
        attention={
            "norm": "layernorm_before",
            "branch.q_proj": "attention.attention.query",
            "branch.k_proj": "attention.attention.key",
            "branch.v_proj": "attention.attention.value",
            "branch.o_proj": "attention.output.dense",
        },
        ffn={
            "norm": "layernorm_after",
            "branch.up_proj": "intermediate.dense",
            "branch.down_proj": "output.dense",
        },
    )

    def shape(self, config: Any) -> VisionShape:
        hidden, heads = config.hidden_size, config.num_attention_heads
        if hidden % heads:
            raise ConfigError(f"{hidden} channels do not share {heads} heads evenly")
        if config.num_channels != 3:
            raise CapabilityError(
                f"num_channels {config.num_channels} of the teacher is not supported: pictures are "
                f"of three; choose a teacher of colour pictures"
            )
        kind = (config.architectures or self.model_classes)[0]
        return VisionShape(
            family=self.model_type,
            layers=config.num_hidden_layers,
            hidden_size=hidden,
            query_heads=heads,
            kv_heads=heads,
            head_dim=hidden // heads,
            ffn_width=config.intermediate_size,
            qkv_bias=bool(config.qkv_bias),
            output_bias=True,
            ffn_bias=True,
            norm_eps=config.layer_norm_eps,
            activation=config.hidden_act,
            patch_side=_side(config.patch_size, "patch_size"),
            prefix_tokens=self.prefix_tokens,
            pooling=self._pooling(kind),
            classes=0 if kind == self.model_classes[0] else config.num_labels,
            image_side=_side(config.image_size, "image_size"),
            image_mean=self.channel_mean,
            image_std=self.channel_std,
        )

    def foreign_names(self, name: str) -> tuple[str, ...]:
        spellings = tuple(layout.foreign(name) for layout in (self.layout, _NEWER))
        if name.startswith("head"):
            return spellings[:1]
        return (*spellings, *(f"{self.prefix}{spelt}" for spelt in spellings))

    def parameter(self, name: str, stored: Stored, shape: ChainShape) -> Tensor:
        assert isinstance(shape, VisionShape)
        return head_of(shape, stored) if name == "head.weight" else stored(name)

    def ignorable(self, name: str) -> bool:
        return name.removeprefix(self.prefix).startswith(("pooler.", "embeddings.mask_token"))

    def _pooling(self, kind: str) -> Literal["cls", "both"]:
        return "cls"


class DeitFamily(VitFamily):
    """DeiT with its distillation token. `WithTeacher`: two classifiers whose logits are averaged,
    which is one that reads both tokens."""

    model_type = "deit"
    config_class = "DeiTConfig"
    model_classes = (
        "DeiTModel",
        "DeiTForImageClassification",
        "DeiTForImageClassificationWithTeacher",
    )
    prefix = "deit."
    prefix_tokens = 2
    channel_mean = (0.485, 0.456, 0.406)
    channel_std = (0.229, 0.224, 0.225)

    def foreign_names(self, name: str) -> tuple[str, ...]:
        if name.startswith("head."):
            return (*super().foreign_names(name), name.replace("head.", "cls_classifier."))
        if name.startswith("head_distilled."):
            return (name.replace("head_distilled.", "distillation_classifier."),)
        return super().foreign_names(name)

    def _pooling(self, kind: str) -> Literal["cls", "both"]:
        return "both" if kind == self.model_classes[2] else "cls"


def head_of(shape: VisionShape, stored: Stored) -> Tensor:
    """The classifier with its bias as the last column [classes, read_width + 1]. Two that read a
    token each are one that reads both: their logits are averaged."""
    weight, bias = stored("head.weight"), stored("head.bias")
    if shape.pooling != "both":
        return torch.cat((weight, bias[:, None]), dim=1)
    bias = bias + stored("head_distilled.bias")
    return torch.cat((weight, stored("head_distilled.weight"), bias[:, None]), dim=1) / 2


def _side(size: Any, name: str) -> int:
    sides = list(size) if isinstance(size, (list, tuple)) else [size]
    if len(set(sides)) != 1:
        raise CapabilityError(
            f"{name} {sides} of the teacher is not supported: pictures and patches are square"
        )
    return int(sides[0])
