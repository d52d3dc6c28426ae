"""One process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nas.sharding._base import Ranks, Task

if TYPE_CHECKING:
    from torch import Tensor, nn


class Alone(Ranks):
    """There is nobody else."""

    def announce(self, task: Task) -> None:
        """Nobody listens."""

    def next_task(self) -> Task | None:
        return None

    def close(self) -> None:
        """There is nothing to let go of."""

    def shard(
        self, network: nn.Module, groups: Iterable[Sequence[nn.Module]], kept: Iterable[Tensor]
    ) -> None:
        """The one part is the whole."""

    def local(self, tensor: Tensor) -> Tensor:
        return tensor

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor

    def total(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def gather(self, text: str) -> list[str]:
        return [text]
