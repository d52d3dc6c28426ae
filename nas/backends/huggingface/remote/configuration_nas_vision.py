"""Configuration of a transformer over pictures whose layers differ, as written by the student
compiler nas."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class NasVisionConfig(PreTrainedConfig):  # type: ignore[misc]
    """A ViT-like network.

    `blocks` holds two entries a layer, attention and feed-forward: `{"kind": "gqa",
    "query_heads": q, "kv_heads": k}`, `{"kind": "ffn", "width": w}`, `{"kind": "linear"}` (one
    linear layer with a bias) or `{"kind": "skip"}` (nothing, not even the norm). `prefix_tokens`
    stand before the patches. `pooling`: what is read of the last states, `cls`, `both` (the first
    two, side by side) or the `mean` over the patches; with `pools_first` the last norm comes after
    that.
    """

    model_type = "nas_vision"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_dim: int = 64
    blocks: list[dict[str, Any]] | None = None
    qkv_bias: bool = True
    hidden_act: str = "gelu"
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    prefix_tokens: int = 1
    pooling: str = "cls"
    pools_first: bool = False
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    teacher_family: str = "vit"

    def validate_architecture(self) -> None:
        """Raise ValueError for blocks that the model file does not define."""
        blocks = self.blocks or []
        if len(blocks) not in (0, 2 * self.num_hidden_layers):
            raise ValueError(f"{len(blocks)} blocks for {self.num_hidden_layers} layers")
        for block in blocks:
            if block.get("kind") not in ("gqa", "ffn", "linear", "skip"):
                raise ValueError(f"block kind {block.get('kind')!r} is not defined")
        if self.pooling not in ("cls", "both", "mean"):
            raise ValueError(f"pooling {self.pooling!r} is not defined")


__all__ = ["NasVisionConfig"]
