"""Cost tables with known figures, for tests of whatever reads one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.ir import Conditions, Latency, Phase
from nas.meters import CostTable


def conditions(phase: Phase = "prefill", **overrides: Any) -> Conditions:
    """Conditions that fit `TargetConfig(prompt_tokens=16)`."""
    settings = {
        "phase": phase,
        "batch": 1,
        "prompt_tokens": 16,
        "dtype": "float32",
        "threads": 2,
        "runtime": "onnxruntime",
        "runtime_version": "1.31.1",
        "device": "a test",
    }
    return Conditions(**{**settings, **overrides})


def cost_table(figures: Mapping[str, float], phase: Phase = "prefill") -> CostTable:
    """One sample a key."""
    return CostTable.of(
        (key, phase, Latency.of([ms], conditions(phase))) for key, ms in figures.items()
    )
