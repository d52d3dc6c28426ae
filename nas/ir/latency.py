"""Latency as one value object, always with the conditions it was taken under."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

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

    def require_same(self, other: Conditions, but: Collection[str] = ()) -> None:
        """Raise ConfigError naming the fields that differ, other than those in `but`."""
        mine, theirs = self.model_dump(exclude=set(but)), other.model_dump(exclude=set(but))
        differing = [f"{k}: {mine[k]!r} and {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]
        if differing:
            raise ConfigError("latencies of unlike conditions do not mix; " + ", ".join(differing))


class Latency(BaseModel):
    """Milliseconds: the samples and what was asked of the machine. `source` says how it came.

    `pace`: the time that the round of each sample took over its usual one, by all that was timed in
    it; () where nothing was. A machine that others share changes its pace for seconds at a time, so
    the median is that of the samples at the usual pace; `p90_ms` and `spread` are of the samples as
    they were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples_ms: tuple[_Milliseconds, ...] = Field(min_length=1)
    conditions: Conditions
    source: Literal["measured", "slope", "predicted", "roofline", "table"] = "measured"
    pace: tuple[PositiveFloat, ...] = ()

    @classmethod
    def of(
        cls,
        samples_ms: Sequence[float],
        conditions: Conditions,
        source: str = "measured",
        pace: Sequence[float] = (),
    ) -> Latency:
        return cls.model_validate(
            {
                "samples_ms": tuple(samples_ms),
                "conditions": conditions,
                "source": source,
                "pace": tuple(pace),
            }
        )

    @model_validator(mode="after")
    def _one_pace_a_sample(self) -> Self:
        if self.pace and len(self.pace) != len(self.samples_ms):
            raise ValueError(f"{len(self.samples_ms)} samples, but {len(self.pace)} paces")
        return self

    @property
    def median_ms(self) -> float:
        """The middle sample at the usual pace."""
        if not self.pace:
            return statistics.median(self.samples_ms)
        return statistics.median(s / p for s, p in zip(self.samples_ms, self.pace, strict=True))

    @property
    def p90_ms(self) -> float:
        if len(self.samples_ms) == 1:
            return self.samples_ms[0]
        return statistics.quantiles(self.samples_ms, n=10, method="inclusive")[-1]

    @property
    def spread(self) -> float:
        """Interquartile range over the median; 0 for a single sample."""
        if len(self.samples_ms) == 1 or statistics.median(self.samples_ms) == 0:
            return 0.0
        low, middle, high = statistics.quantiles(self.samples_ms, n=4, method="inclusive")
        return (high - low) / abs(middle)

    @property
    def tokens_per_s(self) -> float:
        c = self.conditions
        tokens = c.batch * (c.prompt_tokens if c.phase == "prefill" else 1)
        return 1000.0 * tokens / self.median_ms
