"""What every network offers to proxies, distillation and costs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ImageNetwork(nn.Module, ABC):
    """Pictures [N, 3, H, W] to logits [N, classes]: features, global average pooling, `head`."""

    head: nn.Linear

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """The last feature map before pooling, [N, C, h, w]."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return logits


class EncoderNetwork(nn.Module, ABC):
    """Token ids [N, T] to hidden states [N, T, hidden]."""

    heads: int

    @abstractmethod
    def attention_vectors(
        self, tokens: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the last layer, each [N, T, heads * head_dim], heads side by
        side; `mask` [N, T] is 0 where tokens are padding."""
