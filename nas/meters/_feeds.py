"""Inputs of the measured models: shapes as in a network, values that do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.config import TargetConfig
from nas.ir import DecoderShape, GroupedQueryAttention
from nas.meters._base import Request

if TYPE_CHECKING:
    import numpy as np


class Feeds:
    """Random inputs for one target and decoder shape."""

    def __init__(self, config: TargetConfig, shape: DecoderShape) -> None:
        import numpy as np

        self._np = np
        self._random = np.random.default_rng(0)
        self.config, self.shape = config, shape
        self.dtype = np.dtype(config.dtype)

    def of(self, request: Request, copies: int) -> dict[str, np.ndarray]:
        """Inputs of a stack of `copies` blocks, of the prologue or of the epilogue."""
        np, batch = self._np, self.config.batch
        prompt = self.config.prompt_tokens
        tokens, past = (prompt, 0) if request.phase == "prefill" else (1, prompt)
        if request.part == "embed":
            ids = self._random.integers(0, self.shape.vocab_size, (batch, tokens))
            return {"input_ids": ids, "attention_mask": np.ones((batch, past + tokens), np.int64)}
        feed = {"state": self._normal(batch, tokens, self.shape.hidden_size)}
        if isinstance(request.spec, GroupedQueryAttention):
            heads, dim = request.spec.kv_heads, self.shape.head_dim
            feed["cos"] = self._normal(batch, tokens, dim)
            feed["sin"] = self._normal(batch, tokens, dim)
            feed["mask"] = np.zeros((batch, 1, tokens, past + tokens), self.dtype)
            for i in range(copies):
                for part in ("key", "value"):
                    feed[f"past_key_values.{i}.{part}"] = self._normal(batch, heads, past, dim)
        return feed

    def _normal(self, *shape: int) -> np.ndarray:
        return self._random.standard_normal(shape).astype(self.dtype)
