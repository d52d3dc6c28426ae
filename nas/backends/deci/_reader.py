"""A reader of DeciLM folders: what a server computes of one, from its files alone.

It knows nothing of chains and slots, so that an export can be compared with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from nas.errors import PassError

if TYPE_CHECKING:
    from nas.chain import DecoderChain


class DeciLM:
    """The network of a folder, in float32 on the CPU.

    A width is `intermediate_size`, or follows from `ffn_mult` as in NVIDIA's models: two thirds of
    its share of the hidden size, up to a multiple of 256."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        stored = load_file(str(folder / "model.safetensors"))
        self.weights: dict[str, Tensor] = {n: tensor.float() for n, tensor in stored.items()}
        self.used: set[str] = set()

    def __call__(self, ids: Tensor) -> Tensor:
        """Token ids [batch, tokens] to logits [batch, tokens, vocab]."""
        embedding = self._weight("model.embed_tokens")
        state = F.embedding(ids, embedding)
        cos, sin = self._angles(ids.shape[1])
        for i, block in enumerate(self.config["block_configs"]):
            prefix = f"model.layers.{i}"
            if not block["attention"]["no_op"]:
                x = self._norm(state, f"{prefix}.input_layernorm")
                group = block["attention"]["n_heads_in_group"]
                state = state + self._attention(x, f"{prefix}.self_attn", group, cos, sin)
            if not block["ffn"]["no_op"]:
                x = self._norm(state, f"{prefix}.post_attention_layernorm")
                state = state + self._feed_forward(x, f"{prefix}.mlp", block["ffn"])
        head = embedding if self.config["tie_word_embeddings"] else self._weight("lm_head")
        logits: Tensor = F.linear(self._norm(state, "model.norm"), head)
        return logits

    def _weight(self, name: str) -> Tensor:
        self.used.add(f"{name}.weight")
        return self.weights[f"{name}.weight"]

    def _norm(self, x: Tensor, name: str) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        normed: Tensor = x * scale
        return normed * self._weight(name)

    def _attention(self, x: Tensor, name: str, group: int, cos: Tensor, sin: Tensor) -> Tensor:
        heads, dim = self.config["num_attention_heads"], self.config["head_dim"]
        split = {"q": heads, "k": heads // group, "v": heads // group}
        q, k, v = (
            F.linear(x, self._weight(f"{name}.{part}_proj")).unflatten(-1, (n, dim)).transpose(1, 2)
            for part, n in split.items()
        )
        q, k = (
            y * cos + torch.cat([-y[..., dim // 2 :], y[..., : dim // 2]], -1) * sin for y in (q, k)
        )
        k, v = (y.repeat_interleave(group, dim=1) for y in (k, v))
        scores = q @ k.transpose(-1, -2) / dim**0.5
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
        return F.linear(mixed.transpose(1, 2).flatten(2), self._weight(f"{name}.o_proj"))

    def _feed_forward(self, x: Tensor, name: str, block: dict[str, Any]) -> Tensor:
        gate, up = (self._weight(f"{name}.{part}_proj") for part in ("gate", "up"))
        width = block["intermediate_size"] if "intermediate_size" in block else self._width(block)
        if len(gate) != width:
            raise PassError(f"{name}: {len(gate)} channels stored, config.json says {width}")
        inner = F.silu(F.linear(x, gate)) * F.linear(x, up)
        return F.linear(inner, self._weight(f"{name}.down_proj"))

    def _width(self, block: dict[str, Any]) -> int:
        width = int(2 * block["ffn_mult"] * self.config["hidden_size"] / 3)
        return -(-width // 256) * 256

    def _angles(self, tokens: int) -> tuple[Tensor, Tensor]:
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        names = ("hidden_size", "head_dim", "max_position_embeddings", "rope_parameters")
        settings = {name: self.config[name] for name in names}
        rotary = LlamaRotaryEmbedding(LlamaConfig(num_attention_heads=1, **settings))
        cos, sin = rotary(torch.zeros(1), torch.arange(tokens)[None])
        return cos[:, None], sin[:, None]


@torch.no_grad()
def check_decilm(folder: Path, chain: DecoderChain, ids: Tensor, *, tolerance: float) -> float:
    """Largest difference of logits on `ids` [batch, tokens] between `chain` and the folder as it is
    read back. Raises PassError where that is above `tolerance`, or where the folder holds weights
    that its configuration does not speak of."""
    network, ids = DeciLM(folder), ids.cpu().long()
    found = network(ids)
    unused = sorted(network.weights.keys() - network.used)
    if unused:
        raise PassError(f"{folder}: config.json does not speak of {', '.join(unused[:3])}")
    difference = float((found - chain(ids.to(chain.device)).float().cpu()).abs().max())
    if not difference <= tolerance:  # so that NaN fails too
        raise PassError(
            f"{folder}: logits differ from the student's by up to {difference:.3g}, "
            f"{tolerance:.3g} is allowed; the folder does not hold this network"
        )
    return difference
