"""Latency as one value object, always with the conditions it was taken under."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.errors import ConfigError

Phase = Literal["prefill", "decode"]

_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Conditions(BaseModel):
    """What a latency depends on beside the network. Numbers under unequal conditions never mix.

    `prefill` runs `prompt_tokens` at once on an empty cache; `decode` runs one token with
    `prompt_tokens` already in the cache.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Phase
    batch: int = Field(gt=0)
    prompt_tokens: int = Field(gt=0)
    dtype: str
    threads: int = Field(gt=0)
    runtime: str
    runtime_version: str
    device: str

    def require_same(self, other: Conditions) -> None:
        """Raise ConfigError naming the fields that differ."""
        mine, theirs = self.model_dump(), other.model_dump()
        differing = [f"{k}: {mine[k]!r} and {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]
        if differing:
            raise ConfigError("latencies of unlike conditions do not mix; " + ", ".join(differing))


class Latency(BaseModel):
    """Milliseconds: the samples and what was asked of the machine. `source` says how it came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples_ms: tuple[_Milliseconds, ...] = Field(min_length=1)
    conditions: Conditions
    source: Literal["measured", "slope", "predicted", "roofline", "table"] = "measured"

    @classmethod
    def of(
        cls, samples_ms: Sequence[float], conditions: Conditions, source: str = "measured"
    ) -> Latency:
        return cls.model_validate(
            {"samples_ms": tuple(samples_ms), "conditions": conditions, "source": source}
        )

    @property
    def median_ms(self) -> float:
        return statistics.median(self.samples_ms)

    @property
    def p90_ms(self) -> float:
        if len(self.samples_ms) == 1:
            return self.samples_ms[0]
        return statistics.quantiles(self.samples_ms, n=10, method="inclusive")[-1]

    @property
    def spread(self) -> float:
        """Interquartile range over the median; 0 for a single sample."""
        if len(self.samples_ms) == 1 or self.median_ms == 0:
            return 0.0
        low, _, high = statistics.quantiles(self.samples_ms, n=4, method="inclusive")
        return (high - low) / abs(self.median_ms)

    @property
    def tokens_per_s(self) -> float:
        c = self.conditions
        tokens = c.batch * (c.prompt_tokens if c.phase == "prefill" else 1)
        return 1000.0 * tokens / self.median_ms
