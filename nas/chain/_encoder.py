"""A bidirectional encoder as a chain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.blocks import BlockContext
from nas.blocks._activations import activation_of
from nas.chain._base import Chain
from nas.chain._slot import make_slots
from nas.ir import Architecture, EncoderShape


class MaskedHead(nn.Module):
    """What stands between the last states and the embeddings that tell masked tokens: `dense.*`,
    `norm.*`, and the `bias` [vocab] of the logits."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, shape.norm_eps)
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))
        self._activation = activation_of(shape.activation)

    def forward(self, hidden: Tensor) -> Tensor:
        """Last states to what is multiplied with the embeddings [..., hidden], in the number format
        of the states."""
        dense, norm, kind = self.dense, self.norm, hidden.dtype
        read = self._activation(F.linear(hidden, dense.weight.to(kind), dense.bias.to(kind)))
        width = norm.normalized_shape
        return F.layer_norm(read, width, norm.weight.to(kind), norm.bias.to(kind), norm.eps)


class EncoderChain(Chain):
    """An encoder of `shape` with the blocks of `architecture`.

    Outside the slots: `embed.weight` [vocab, hidden], `positions.weight`, `types.weight` (where the
    network knows token types), `embed_norm.*` and, where the shape has one, the `MaskedHead`.
    """

    shape: EncoderShape

    def __init__(self, shape: EncoderShape, architecture: Architecture | None = None) -> None:
        super().__init__(shape, architecture)
        self.embed = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.positions = nn.Embedding(shape.max_positions, shape.hidden_size)
        self.types = (
            nn.Embedding(shape.type_vocab_size, shape.hidden_size)
            if shape.type_vocab_size
            else None
        )
        self.embed_norm = nn.LayerNorm(shape.hidden_size, shape.norm_eps)
        self.slots = make_slots(shape, self.architecture)
        self.head = MaskedHead(shape) if shape.masked_head else None

    @property
    def outside(self) -> tuple[str, ...]:
        return ("embed.", "positions.", "types.", "embed_norm.", "head.")

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        """Token ids [batch, tokens] to last states [batch, tokens, hidden].

        `attention_mask`: 0 where there is padding (None: nowhere); `types`: token types, by default
        0.
        """
        context = self.context(ids) if attention_mask is None else self.masked(attention_mask)
        return self.final_hidden(self.run(self.embed_tokens(ids, types), context))

    def embed_tokens(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        """The residual stream before slot 0, in `residual_dtype` where that is set."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        state: Tensor = self.embed(ids) + self.positions(positions)
        if self.types is not None:
            state = state + (self.types.weight[0] if types is None else self.types(types))
        return self._in_residual_dtype(self.embed_norm(state))

    def context(self, ids: Tensor) -> BlockContext:
        """Every token sees every other."""
        return BlockContext(causal=False)

    def masked(self, attention_mask: Tensor) -> BlockContext:
        """Tokens see those that are no padding; `attention_mask` [batch, tokens], 0 for padding."""
        return BlockContext(mask=attention_mask.bool()[:, None, None, :], causal=False)

    def final_hidden(self, state: Tensor) -> Tensor:
        return state

    def exact_hidden(self, state: Tensor) -> Tensor:
        return state.float()

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the token at each place [batch, tokens, vocab], from last states; a network with a
        masked head only."""
        assert self.head is not None
        return F.linear(self.head(hidden).to(self.dtype), self.embed.weight, self.head.bias)

    def pool(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embeddings [batch, hidden] of last states [batch, tokens, hidden]."""
        return pooled(self.shape, hidden, attention_mask)

    def embeddings(self, ids: Tensor) -> Tensor:
        """[batch, hidden] in float32, of token ids [batch, tokens] without padding."""
        return self.pool(self(ids).float())


def pooled(shape: EncoderShape, hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Embeddings [batch, hidden] of last states [batch, tokens, hidden], as `shape` says."""
    if shape.pooling == "cls":
        found = hidden[:, 0]
    elif attention_mask is None:
        found = hidden.mean(1)
    else:
        weight = attention_mask.to(hidden.dtype).unsqueeze(-1)
        found = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
    if not shape.normalised:
        return found
    # Spelt out: torch's own function writes the width into an exported graph.
    length = torch.linalg.vector_norm(found, dim=-1, keepdim=True)
    unit: Tensor = found / length.clamp(min=1e-12)
    return unit


@torch.no_grad()
def embed_texts(chain: EncoderChain, ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Embeddings [batch, hidden] of padded token ids [batch, tokens]."""
    return chain.pool(chain(ids, attention_mask).float(), attention_mask)
