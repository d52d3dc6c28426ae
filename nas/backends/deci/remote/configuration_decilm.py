"""Configuration of a decoder in the DeciLM layout, as written by the student compiler nas.

`block_configs` says, layer by layer, how many query heads share one key-value head
(`attention.n_heads_in_group`), how wide the feed-forward is (`ffn.intermediate_size`), and which of
the two is missing (`no_op`). The weights are those of a Llama without what is missing.
"""

from typing import Any

from transformers import LlamaConfig


class Block(dict):  # type: ignore[type-arg]
    """A dictionary whose entries are attributes too, as servers read them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _block(value: Any) -> Any:
    return Block({k: _block(v) for k, v in value.items()}) if isinstance(value, dict) else value


class DeciLMConfig(LlamaConfig):  # type: ignore[misc]
    """A Llama whose layers differ."""

    model_type = "nemotron-nas"

    def __init__(self, block_configs: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block_configs = [_block(entry) for entry in block_configs or ()]


__all__ = ["DeciLMConfig"]
