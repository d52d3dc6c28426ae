"""A transformer over pictures as a chain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.blocks import BlockContext
from nas.blocks._norm import LayerNorm
from nas.chain._base import Chain
from nas.chain._pictures import normalised
from nas.chain._slot import make_slots
from nas.ir import Architecture, VisionShape


class PatchEmbedding(nn.Module):
    """Patches as tokens, behind those that every picture has, at their positions."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        hidden, side = shape.hidden_size, shape.patch_side
        self.projection = nn.Conv2d(3, hidden, side, side)
        self.cls_token = _token(hidden) if shape.prefix_tokens > 0 else None
        self.distillation_token = _token(hidden) if shape.prefix_tokens > 1 else None
        self.position_embeddings = nn.Parameter(torch.zeros(1, shape.places, hidden))

    @property
    def prefix(self) -> list[Tensor]:
        """The tokens before the patches, each [1, 1, hidden]."""
        both = (self.cls_token, self.distillation_token)
        return [token for token in both if token is not None]

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [pictures, 3, side, side] to [pictures, places, hidden]."""
        patches = self.projection(pixels).flatten(2).transpose(1, 2)
        prefix = (token.expand(len(patches), -1, -1) for token in self.prefix)
        return torch.cat((*prefix, patches), dim=1) + self.position_embeddings


class VisionChain(Chain):
    """A ViT of `shape` with the blocks of `architecture`.

    Outside the slots: `embed.*` (see `PatchEmbedding`), `norm.*` and, where there are classes,
    `head.weight` [classes, read_width + 1], whose last column is the bias.
    """

    shape: VisionShape
    embed: PatchEmbedding  # type: ignore[assignment]

    def __init__(self, shape: VisionShape, architecture: Architecture | None = None) -> None:
        super().__init__(shape, architecture)
        self.embed = PatchEmbedding(shape)
        self.slots = make_slots(shape, self.architecture)
        self.norm = LayerNorm(shape.hidden_size, shape.norm_eps)
        inputs = shape.read_width + 1
        self.head = nn.Linear(inputs, shape.classes, bias=False) if shape.classes else None

    @property
    def outside(self) -> tuple[str, ...]:
        """The embedding alone: the last norm and the classifier are trained with the blocks."""
        return ("embed.",)

    @property
    def dtype(self) -> torch.dtype:
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures, as `embed_tokens` takes them, to logits [pictures, classes], or to embeddings
        [pictures, read_width] where there is no classifier."""
        state = self.run(self.embed_tokens(pictures), self.context(pictures))
        hidden = self.final_hidden(state)
        return self.pool(hidden) if self.head is None else self.pool(self.head(hidden))

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """The state before slot 0 [pictures, places, hidden] of pictures [pictures, 3, h, w]: of
        bytes, or of numbers that are normalised already."""
        pixels = normalised(ids, self.shape) if ids.dtype == torch.uint8 else ids
        return self._in_residual_dtype(self.embed(pixels.to(self.dtype)))

    def context(self, ids: Tensor) -> BlockContext:
        """Every patch sees every other."""
        return BlockContext(causal=False)

    def final_hidden(self, state: Tensor) -> Tensor:
        """What the classifier reads, with a one for its bias [pictures, 1, read_width + 1]; without
        one the embedding [pictures, 1, read_width]."""
        return self.exact_hidden(state).to(self.dtype)

    def exact_hidden(self, state: Tensor) -> Tensor:
        read = self._read(state)
        if self.head is None:
            return read
        return torch.cat((read, torch.ones_like(read[..., :1])), dim=-1)

    def pool(self, hidden: Tensor) -> Tensor:
        """[pictures, 1, channels] as [pictures, channels]."""
        return hidden.squeeze(1)

    def embeddings(self, pictures: Tensor) -> Tensor:
        """[pictures, read_width] in float32, of a network without a classifier."""
        found: Tensor = self(pictures)
        return found.float()

    def _read(self, state: Tensor) -> Tensor:
        """[pictures, 1, read_width] in float32."""
        shape, before = self.shape, self.shape.prefix_tokens
        if shape.pooling != "mean":
            tokens = state[:, : 2 if shape.pooling == "both" else 1]
            return self.norm.exact(tokens).flatten(1).unsqueeze(1)
        patches = state[:, before:]
        if shape.pools_first:
            return self.norm.exact(patches.float().mean(1, keepdim=True))
        return self.norm.exact(patches).mean(1, keepdim=True)


def _token(hidden: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, 1, hidden))
