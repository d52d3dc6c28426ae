"""Configuration of an encoder whose layers differ, as written by the student compiler nas."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class NasEncoderConfig(PreTrainedConfig):  # type: ignore[misc]
    """A BERT-like encoder.

    `blocks` holds two entries a layer, attention and feed-forward: `{"kind": "gqa",
    "query_heads": q, "kv_heads": k}`, `{"kind": "ffn", "width": w}`, `{"kind": "linear"}` (one
    linear layer with a bias) or `{"kind": "skip"}` (the norm alone). `type_vocab_size` 0: no token
    types. `pooling` (`mean` or `cls`) and `normalised` say how its states become an embedding;
    `masked_head`: there is a head that tells masked tokens.
    """

    model_type = "nas_encoder"

    vocab_size: int = 30522
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    head_dim: int = 32
    blocks: list[dict[str, Any]] | None = None
    qkv_bias: bool = True
    output_bias: bool = True
    ffn_bias: bool = True
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = None
    tie_word_embeddings: bool = False
    pooling: str = "mean"
    normalised: bool = True
    masked_head: bool = False
    teacher_family: str = "bert"

    def validate_architecture(self) -> None:
        """Raise ValueError for blocks that the model file does not define."""
        blocks = self.blocks or []
        if len(blocks) not in (0, 2 * self.num_hidden_layers):
            raise ValueError(f"{len(blocks)} blocks for {self.num_hidden_layers} layers")
        for block in blocks:
            if block.get("kind") not in ("gqa", "ffn", "linear", "skip"):
                raise ValueError(f"block kind {block.get('kind')!r} is not defined")


__all__ = ["NasEncoderConfig"]
