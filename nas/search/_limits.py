"""Upper limits on costs, as they are written on the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.errors import ConfigError


def parse_limits(texts: Sequence[str]) -> dict[str, float]:
    """From `COST=VALUE`, each cost once; raises ConfigError."""
    limits: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"--max {text}: write COST=VALUE, such as params_m=0.5")
        if name in limits:
            raise ConfigError(f"--max {name}: given twice; keep one of them")
        limits[name] = _number(value, text)
    return limits


def _number(value: str, text: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found <= 0:
        raise ConfigError(f"--max {text}: {value!r} is no positive number")
    return found
