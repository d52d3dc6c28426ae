"""The protocol: processes that learn together, each on its part of a batch.

The first of them compiles as if it were alone. The others wait for what it announces, take part in
that, and write nothing but their parts of a checkpoint.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch import Tensor, nn

Task = dict[str, Any]
"""What the first rank announces: plain JSON."""


class Ranks(ABC):
    """`size` processes, this one being number `rank`. What is collective is called by all of them
    in the same order."""

    rank: int = 0
    size: int = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def first(self) -> bool:
        """Whether this is the process that owns the run."""
        return self.rank == 0

    def pieces(self, ids: Tensor, most: int) -> list[tuple[Tensor, float]]:
        """This rank's part of a step: at most `most` sequences each, and the share of the step's
        sequences `ids` [sequences, tokens] that they are.

        The ranks' parts follow each other in the order of `ids`. All ranks get the same number of
        pieces; a rank that would have fewer gets pieces that count nothing.
        """
        mine = ids.tensor_split(self.size)[self.rank]
        found = [(p, len(p) / len(ids)) for p in mine.split(most) if len(p)]
        wanted = math.ceil(math.ceil(len(ids) / self.size) / most)
        return found + [(ids[:1], 0.0)] * (wanted - len(found))

    @abstractmethod
    def announce(self, task: Task) -> None:
        """On the first rank: let the others join in `task`."""

    @abstractmethod
    def next_task(self) -> Task | None:
        """On the others: what the first rank announces next; None once it has closed."""

    @abstractmethod
    def close(self) -> None:
        """Nothing will be announced any more."""

    @abstractmethod
    def shard(
        self, network: nn.Module, groups: Iterable[Sequence[nn.Module]], kept: Iterable[Tensor]
    ) -> None:
        """Leave this rank its part of every parameter of `network`, but for those `kept`.

        The parameters of a group are gathered together when one of its modules is called, and let
        go of after that; all others when `network` itself is called. Collective, as the calls are.
        Gradients of the ranks are averaged.
        """

    @abstractmethod
    def local(self, tensor: Tensor) -> Tensor:
        """The part of a sharded tensor that this rank holds; any other as it is."""

    @abstractmethod
    def whole(self, tensor: Tensor) -> Tensor:
        """A sharded tensor, gathered; any other as it is. Collective."""

    @abstractmethod
    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks. Collective."""

    @abstractmethod
    def gather(self, text: str) -> list[str]:
        """What each rank says, by rank; collective, so all have said it when it returns."""
