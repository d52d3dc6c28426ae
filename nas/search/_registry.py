"""Strategies by name."""

from __future__ import annotations

import difflib

from nas.errors import ConfigError
from nas.search._base import Strategy
from nas.search._evolution import Evolution
from nas.search._exhaustive import Exhaustive
from nas.search._nsga2 import Nsga2

_STRATEGIES: dict[str, type[Strategy]] = {
    kind.name: kind for kind in (Exhaustive, Evolution, Nsga2)
}


def list_strategies() -> tuple[str, ...]:
    """All names that `create_strategy` takes."""
    return tuple(_STRATEGIES)


def create_strategy(name: str) -> Strategy:
    """The strategy called `name` with its default settings; raises ConfigError for another."""
    if name not in _STRATEGIES:
        close = difflib.get_close_matches(name, _STRATEGIES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        raise ConfigError(f"no strategy {name!r}{hint} known are {', '.join(_STRATEGIES)}")
    return _STRATEGIES[name]()
