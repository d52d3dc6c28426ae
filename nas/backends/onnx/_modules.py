"""The parts of a decoder as torch modules whose weights are arguments.

A graph exported from such a module has its weights among the inputs, so one graph serves every
slot that has the same structure.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from nas.blocks import BlockContext, KeyValue
from nas.blocks._norm import RMSNorm
from nas.chain import DecoderChain, EncoderChain, SlotModule

# Added to the score of a hidden key. Finite, because a row that is hidden altogether (left padding)
# would turn into NaN; within the range of float16 with room for the score.
HIDDEN_SCORE = {"float32": -1e9, "bfloat16": -1e9, "float16": -3e4}


class Part(nn.Module):
    """Base: `weights` in `forward` stand in the order of `weight_names`."""

    def __init__(self, module: nn.Module, prefix: str = "") -> None:
        super().__init__()
        # In a tuple, so that the exporter does not see these parameters as the part's own.
        self._source = (module,)
        self._parameter_names = tuple(name for name, _ in module.named_parameters())
        self.weight_names = tuple(name.removeprefix(prefix) for name in self._parameter_names)

    @abstractmethod
    def forward(self, *inputs: Tensor, weights: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Tensors in, tensors out; no weight of its own."""

    def source_weights(self) -> list[Tensor]:
        """The parameters that the part was made from."""
        return [parameter.detach() for parameter in self._source[0].parameters()]

    def call(self, weights: Sequence[Tensor], *arguments: object) -> object:
        """Run the module with `weights` in place of its own."""
        state = dict(zip(self._parameter_names, weights, strict=True))
        return functional_call(self._source[0], state, arguments)


class PlainBlock(Part):
    """A slot without a cache, whose tokens see all others if any: state -> next state."""

    def forward(self, state: Tensor, weights: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        result = self.call(weights, state, BlockContext(causal=False))
        assert isinstance(result, Tensor)
        return result


class MaskedBlock(Part):
    """A slot whose branch looks at all tokens that a mask shows: state and mask -> next state."""

    def forward(  # type: ignore[override]
        self, state: Tensor, mask: Tensor, weights: Sequence[Tensor]
    ) -> Tensor:
        result = self.call(weights, state, BlockContext(mask=mask, causal=False))
        assert isinstance(result, Tensor)
        return result


class _CachedSlot(nn.Module):
    def __init__(self, slot: SlotModule) -> None:
        super().__init__()
        self.slot = slot

    def forward(
        self, state: Tensor, context: BlockContext, past: KeyValue
    ) -> tuple[Tensor, KeyValue]:
        return self.slot.forward_cached(state, context, past)


class CachedBlock(Part):
    """A slot with a cache: state, context and past -> next state and present."""

    def __init__(self, slot: SlotModule) -> None:
        super().__init__(_CachedSlot(slot), prefix="slot.")

    def forward(  # type: ignore[override]
        self,
        state: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor,
        past_key: Tensor,
        past_value: Tensor,
        weights: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        context, past = BlockContext(cos, sin, mask), KeyValue(past_key, past_value)
        result = self.call(weights, state, context, past)
        assert isinstance(result, tuple)
        return result[0], result[1].key, result[1].value


class Prologue(Part):
    """Token ids and padding mask -> state, cos, sin and additive mask.

    The chain stays in float32, and with it the angles; the results take the embedding's type.
    """

    def __init__(self, chain: DecoderChain, dtype: str) -> None:
        super().__init__(chain.embed)
        self._chain, self._hidden_score = (chain,), HIDDEN_SCORE[dtype]

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, weights: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        context = self._chain[0].cached_context(attention_mask, input_ids.shape[1])
        assert context.mask is not None
        assert context.cos is not None
        assert context.sin is not None
        state = F.embedding(input_ids, weights[0])
        mask = torch.where(context.mask, 0.0, self._hidden_score)
        return state, *(part.to(state.dtype) for part in (context.cos, context.sin, mask))


class _NormedHead(nn.Module):
    def __init__(self, norm: RMSNorm, head: nn.Linear) -> None:
        super().__init__()
        self.norm, self.head = norm, head

    def forward(self, state: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(state))
        return logits


class Epilogue(Part):
    """State -> logits."""

    def __init__(self, chain: DecoderChain) -> None:
        super().__init__(_NormedHead(chain.norm, chain.head))

    def forward(self, state: Tensor, weights: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        result = self.call(weights, state)
        assert isinstance(result, Tensor)
        return result


class _Embedding(nn.Module):
    """Token ids and types to the first state; the encoder's own parameters, under its own names."""

    def __init__(self, chain: EncoderChain) -> None:
        super().__init__()
        self.embed, self.positions, self.types = chain.embed, chain.positions, chain.types
        self.embed_norm = chain.embed_norm

    def forward(self, ids: Tensor, types: Tensor | None) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        state: Tensor = self.embed(ids) + self.positions(positions)
        if self.types is not None and types is not None:
            state = state + self.types(types)
        normed: Tensor = self.embed_norm(state)
        return normed


class EncoderPrologue(Part):
    """Token ids and padding mask -> state and additive mask [batch, 1, 1, tokens]."""

    def __init__(self, chain: EncoderChain, dtype: str) -> None:
        super().__init__(_Embedding(chain))
        self._hidden_score = HIDDEN_SCORE[dtype]

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, weights: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        return self._open(input_ids, attention_mask, None, weights)

    def _open(
        self, ids: Tensor, attention_mask: Tensor, types: Tensor | None, weights: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        state = self.call(weights, ids, types)
        assert isinstance(state, Tensor)
        mask = torch.where(attention_mask.bool()[:, None, None, :], 0.0, self._hidden_score)
        return state, mask.to(state.dtype)


class TypedEncoderPrologue(EncoderPrologue):
    """The same of an encoder that knows token types."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        weights: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        return self._open(input_ids, attention_mask, token_type_ids, weights)


class _Teller(nn.Module):
    """Last states to logits of tokens; the encoder's own parameters, under its own names."""

    def __init__(self, chain: EncoderChain) -> None:
        super().__init__()
        assert chain.head is not None
        self.embed, self.head = chain.embed, chain.head

    def forward(self, state: Tensor) -> Tensor:
        return F.linear(self.head(state), self.embed.weight, self.head.bias)


class MaskedEpilogue(Part):
    """Last state -> logits of masked tokens."""

    def __init__(self, chain: EncoderChain) -> None:
        super().__init__(_Teller(chain))

    def forward(self, state: Tensor, weights: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        result = self.call(weights, state)
        assert isinstance(result, Tensor)
        return result


class EncoderEpilogue(Part):
    """Last state and padding mask -> embedding."""

    def __init__(self, chain: EncoderChain) -> None:
        super().__init__(nn.Identity())
        self._chain = (chain,)

    def forward(  # type: ignore[override]
        self, state: Tensor, attention_mask: Tensor, weights: Sequence[Tensor]
    ) -> Tensor:
        return self._chain[0].pool(state, attention_mask)
