"""Small random transformers over pictures: of transformers, and as timm's files have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from nas.chain import VisionChain
from nas.ir import (
    Architecture,
    FeedForward,
    GroupedQueryAttention,
    LinearMap,
    Skip,
    VisionShape,
)
from tests.encoders import _randomise

SIDE, PATCH, CLASSES = 16, 4, 5
PLACES = (SIDE // PATCH) ** 2 + 1

MIXED_VIT = Architecture(
    choices={
        "layers.0.attention": GroupedQueryAttention(kv_heads=2, query_heads=2),
        "layers.0.ffn": FeedForward(width=20),
        "layers.1.attention": LinearMap(),
        "layers.1.ffn": Skip(),
        "layers.2.attention": Skip(),
        "layers.2.ffn": LinearMap(),
        "layers.3.attention": GroupedQueryAttention(kv_heads=2),
    }
)
"""For a shape of four layers."""


def vit_shape(**overrides: Any) -> VisionShape:
    """Four layers of width 32 over 16 patches."""
    settings: dict[str, Any] = {
        "family": "vit",
        "layers": 4,
        "hidden_size": 32,
        "query_heads": 4,
        "kv_heads": 4,
        "head_dim": 8,
        "ffn_width": 48,
        "qkv_bias": True,
        "output_bias": True,
        "ffn_bias": True,
        "norm_eps": 1e-6,
        "activation": "gelu",
        "patch_side": PATCH,
        "classes": CLASSES,
        "image_side": SIDE,
    }
    return VisionShape(**{**settings, **overrides})


def tiny_vit(
    shape: VisionShape | None = None, architecture: Architecture = MIXED_VIT, seed: int = 0
) -> VisionChain:
    """A frozen chain in eval mode whose weights, biases and norms all matter."""
    chain = VisionChain(shape or vit_shape(), architecture).eval().requires_grad_(False)
    _randomise(chain, seed)
    return chain


KINDS = (
    "ViTModel",
    "ViTForImageClassification",
    "DeiTModel",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
)


def tiny_vit_model(kind: str = "ViTForImageClassification", **overrides: Any) -> PreTrainedModel:
    """A random float32 model of transformers in eval mode."""
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "image_size": SIDE,
        "patch_size": PATCH,
        "num_labels": CLASSES,
    }
    config = getattr(transformers, f"{kind[: kind.index('T') + 1]}Config")
    if kind.startswith("DeiT"):
        config = transformers.DeiTConfig
    model: PreTrainedModel = getattr(transformers, kind)(config(**{**sizes, **overrides}))
    _randomise(model, 0)
    return model.eval()


def save_tiny_vit(
    folder: Path,
    kind: str = "ViTForImageClassification",
    *,
    preprocessor: dict[str, Any] | None = None,
    **overrides: Any,
) -> Path:
    """A Hugging Face folder of a model, and perhaps of what says how it takes pictures."""
    tiny_vit_model(kind, **overrides).save_pretrained(folder)
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")
    return folder


class TimmVit(nn.Module):
    """A ViT whose modules are named as timm's are: queries, keys and values in one layer.

    `pool`: the class token, or the mean over the patches with `fc_norm` behind it; `scales`:
    channels of each branch are scaled; `distilled`: a second token with a classifier of its own;
    `whole_positions`: the prefix has positions, too.
    """

    def __init__(
        self,
        *,
        layers: int = 2,
        width: int = 128,
        heads: int = 2,
        pool: str = "token",
        classes: int = CLASSES,
        scales: bool = False,
        distilled: bool = False,
        qkv_bias: bool = True,
        whole_positions: bool = True,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width)) if distilled else None
        self.prefix = 2 if distilled else 1
        positions = (SIDE // PATCH) ** 2 + self.prefix * whole_positions
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, width))
        self.blocks = nn.ModuleList(
            _TimmBlock(width, heads, scales, qkv_bias) for _ in range(layers)
        )
        norm = nn.LayerNorm(width, eps=1e-6)
        if pool == "avg":
            self.fc_norm = norm
        else:
            self.norm = norm
        self.head = nn.Linear(width, classes) if classes else None
        self.head_dist = nn.Linear(width, classes) if distilled else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        prefix = [self.cls_token, *([] if self.dist_token is None else [self.dist_token])]
        tokens = torch.cat([t.expand(len(x), -1, -1) for t in prefix], dim=1)
        if self.pos_embed.shape[1] == x.shape[1]:
            x = torch.cat((tokens, x + self.pos_embed), dim=1)
        else:
            x = torch.cat((tokens, x), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        if self.pool == "avg":
            read = self.fc_norm(x[:, self.prefix :].mean(1))
        else:
            read = self.norm(x)[:, 0]
        if self.head_dist is not None:
            return (self.head(read) + self.head_dist(self.norm(x)[:, 1])) / 2
        return read if self.head is None else self.head(read)


class _TimmBlock(nn.Module):
    def __init__(self, width: int, heads: int, scales: bool, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.attn.proj = nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 96), nn.Linear(96, width)
        self.ls1, self.ls2 = (_Scale(width) if scales else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        rows, places, width = x.shape
        qkv = self.attn.qkv(self.norm1(x)).reshape(rows, places, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(rows, places, width)
        x = x + self.ls1(self.attn.proj(mixed))
        return x + self.ls2(self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x)))))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def random_timm_vit(seed: int = 0, **settings: Any) -> TimmVit:
    """Random weights that all matter, in eval mode."""
    model = TimmVit(**settings)
    _randomise(model, seed)
    for parameter in model.parameters():  # wider than the others: scores would be all or nothing
        if parameter.ndim == 2:
            parameter.data *= 0.5
    return model.eval()


def write_timm_vit(model: nn.Module, path: Path, config: dict[str, Any] | None = None) -> Path:
    """The weights alone, or with a config.json beside them as timm's folders have it."""
    save_file({n: v.contiguous() for n, v in model.state_dict().items()}, path)
    if config is not None:
        (path.parent / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path
