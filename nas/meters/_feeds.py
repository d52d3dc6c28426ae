"""Inputs of the measured models: shapes as in a network, values that do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.config import TargetConfig
from nas.ir import (
    ChainShape,
    ConvShape,
    EncoderShape,
    GroupedQueryAttention,
    PictureShape,
    as_text,
)
from nas.meters._base import Request

if TYPE_CHECKING:
    import numpy as np


class Feeds:
    """Random inputs for one target and decoder shape."""

    def __init__(self, config: TargetConfig, shape: ChainShape) -> None:
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
        if isinstance(self.shape, PictureShape):
            return self._pictures(self.shape, request)
        shape = as_text(self.shape)
        if request.part == "embed":
            ids = self._random.integers(0, shape.vocab_size, (batch, tokens))
            feed = {"input_ids": ids, "attention_mask": np.ones((batch, past + tokens), np.int64)}
            if isinstance(self.shape, EncoderShape) and self.shape.type_vocab_size:
                feed["token_type_ids"] = np.zeros((batch, tokens), np.int64)
            return feed
        feed = {"state": self._normal(batch, tokens, shape.hidden_size)}
        if not self.shape.generates:
            return feed | self._encoder(request, batch, tokens)
        if isinstance(request.spec, GroupedQueryAttention):
            heads, dim = request.spec.kv_heads, shape.head_dim
            feed["cos"] = self._normal(batch, tokens, dim)
            feed["sin"] = self._normal(batch, tokens, dim)
            feed["mask"] = np.zeros((batch, 1, tokens, past + tokens), self.dtype)
            for i in range(copies):
                for part in ("key", "value"):
                    feed[f"past_key_values.{i}.{part}"] = self._normal(batch, heads, past, dim)
        return feed

    def bytes_of(self, request: Request, copies: int) -> int:
        """What `of` would take, in the target's dtype."""
        sizes = _Sizes(self.config, self.shape)
        return sum(array.nbytes for array in sizes.of(request, copies).values())

    def _pictures(self, shape: PictureShape, request: Request) -> dict[str, np.ndarray]:
        batch, side = self.config.batch, shape.image_side
        if request.part == "embed":
            return {"pixel_values": self._normal(batch, 3, side, side)}
        if not isinstance(shape, ConvShape):
            return {"state": self._normal(batch, shape.places, shape.hidden_size)}
        last = shape.stages[-1]
        stage = last if request.block is None else shape.stage(request.block[0])
        return {"state": self._normal(batch, stage.channels, stage.side, stage.side)}

    def _encoder(self, request: Request, batch: int, tokens: int) -> dict[str, np.ndarray]:
        """What a block of an encoder, or its head, takes beside the state."""
        if request.part == "head":
            if self.shape.language:
                return {}
            return {"attention_mask": self._np.ones((batch, tokens), self._np.int64)}
        if isinstance(request.spec, GroupedQueryAttention):
            return {"mask": self._np.zeros((batch, 1, 1, tokens), self.dtype)}
        return {}

    def _normal(self, *shape: int) -> np.ndarray:
        return self._random.standard_normal(shape).astype(self.dtype)


class _Sizes(Feeds):
    """Arrays that only look like those inputs: one number each."""

    def _normal(self, *shape: int) -> np.ndarray:
        looks: np.ndarray = self._np.broadcast_to(self.dtype.type(0), shape)
        return looks
