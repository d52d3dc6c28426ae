"""Every architecture, for spaces that are small."""

from __future__ import annotations

import random
from typing import ClassVar

from nas.errors import ConfigError
from nas.search._arena import Arena
from nas.search._base import Strategy


class Exhaustive(Strategy):
    """Everything within the limits, in the order of the space."""

    name: ClassVar[str] = "exhaustive"

    def explore(self, arena: Arena, rng: random.Random) -> None:
        del rng
        wanted = arena.space.count if arena.fitting is None else len(arena.fitting)
        if arena.trials < wanted:
            raise ConfigError(
                f"--strategy exhaustive: {wanted} architectures are within the limits, more than "
                f"the {arena.trials} of --trials; raise it or choose evolution"
            )
        arena.visit(arena.space.choices() if arena.fitting is None else arena.fitting)
