"""What the student may cost."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, PositiveFloat

from nas.config._section import Section
from nas.config._target import ScenarioName

Phase = Literal["prefill", "decode"]

BY_PHASE: Final = ("latency_ms", "speedup")
"""Limits of which each phase may have its own."""


def of_bare_number(limit: Any) -> dict[Phase, Any]:
    """The limits by phase that a bare number means in the configuration: prefill's alone."""
    return {"prefill": limit}


class PhaseLimits(Section):
    """A limit for each phase; a bare number in the configuration means prefill."""

    prefill: PositiveFloat | None = None
    decode: PositiveFloat | None = None


class Limits(Section):
    """What may be limited under one set of conditions. All that is given must hold.

    `latency_ms`: prefill of the whole prompt, decode of one token. `speedup`: teacher over student,
    same phases. `ttft_ms`: time to the first token, which is prefill of the whole prompt.
    `tokens_per_s`: tokens that decoding writes in a second, of all sequences of the batch.
    `throughput_tokens_per_s`: batch * (prompt + output tokens) over the whole request.
    `memory_mib`: weights (tied embeddings once) and KV cache at batch and full length.
    `kv_mib_per_sequence`: the cache of one sequence at full length.
    """

    latency_ms: PositiveFloat | PhaseLimits | None = None
    speedup: PositiveFloat | PhaseLimits | None = None
    ttft_ms: PositiveFloat | None = None
    tokens_per_s: PositiveFloat | None = None
    throughput_tokens_per_s: PositiveFloat | None = None
    memory_mib: PositiveFloat | None = None
    kv_mib_per_sequence: PositiveFloat | None = None

    def limits(self, name: str) -> dict[Phase, float]:
        """`latency_ms` or `speedup` by phase, as far as given; a bare number limits prefill."""
        value = getattr(self, name)
        if value is None:
            return {}
        if not isinstance(value, PhaseLimits):
            return of_bare_number(float(value))
        both: dict[Phase, float | None] = {
            "prefill": value.prefill,
            "decode": value.decode,
        }
        return {phase: limit for phase, limit in both.items() if limit is not None}

    @property
    def needed_phases(self) -> dict[str, frozenset[str]]:
        """The phases that each given limit is a sum of, by the limit's name."""
        needed: dict[str, frozenset[str]] = {
            f"{name}.{phase}": frozenset({phase})
            for name in BY_PHASE
            for phase in self.limits(name)
        }
        sums: dict[str, frozenset[str]] = {
            "ttft_ms": frozenset({"prefill"}),
            "tokens_per_s": frozenset({"decode"}),
            "throughput_tokens_per_s": frozenset({"prefill", "decode"}),
        }
        given = {name: phases for name, phases in sums.items() if getattr(self, name) is not None}
        return needed | given


class BudgetsConfig(Limits):
    """Limits under the target's own conditions, and on `params_m` (millions), which has none.

    `scenarios`: limits under the conditions that `target.scenarios` names. All hold together."""

    params_m: PositiveFloat | None = None
    scenarios: dict[ScenarioName, Limits] = Field(default={})
