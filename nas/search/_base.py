"""What every strategy is: something that picks which architectures to try."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import ClassVar

from nas.search._arena import Arena


class Strategy(ABC):
    """Tries architectures in an arena until it is done or no trials are left.

    Everything random comes from `rng`, and nothing depends on the clock: with equal seeds and
    values a strategy tries the same architectures, which is what resuming from a journal rests on.
    """

    name: ClassVar[str]

    @abstractmethod
    def explore(self, arena: Arena, rng: random.Random) -> None:
        """Visit architectures of the arena."""
