"""Configuration of a decoder whose layers differ, as written by the student compiler nas.

The global values are those of the teacher. A layer that differs says so in `per_layer_config`
(transformers >= 5.15): `num_key_value_heads`, `num_attention_heads`, `intermediate_size`,
`attention_block`, `mlp_block`, and `skip`, a list of `attention` and `mlp`.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class NasConfig(PreTrainedConfig):  # type: ignore[misc]
    """A Llama-like decoder.

    `attention_block`: `gqa` or `linear`; `mlp_block`: `gated` or `linear` (one linear layer with a
    bias in place of the block). `attention_bias` concerns the query, key and value projections,
    `attention_output_bias` the output projection. `qk_norm` normalises queries and keys by head.
    `runtime_precision` names the blocks (`layers.3.ffn`) that round in a runtime: their
    weights are rounded here too (`int8`: to 255 levels of each output channel; `float16`: to half
    precision), and all is computed in the folder's own format.
    """

    model_type = "nas_decoder"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012

    vocab_size: int = 32000
    hidden_size: int = 256
    intermediate_size: int = 1024
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 64
    attention_block: str = "gqa"
    mlp_block: str = "gated"
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None
    attention_dropout: float = 0.0
    teacher_family: str = "llama"
    runtime_precision: dict[str, str] | None = None

    def validate_architecture(self) -> None:
        """Raise ValueError for a block that the model file does not define."""
        if self.is_heterogeneous:
            for layer_config in self.per_layer_config:
                layer_config.validate_architecture()
            return
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} query heads do not share "
                f"{self.num_key_value_heads} key-value heads evenly"
            )
        if self.attention_block not in ("gqa", "linear"):
            raise ValueError(f"attention_block {self.attention_block!r} is neither gqa nor linear")
        if self.mlp_block not in ("gated", "linear"):
            raise ValueError(f"mlp_block {self.mlp_block!r} is neither gated nor linear")


__all__ = ["NasConfig"]
