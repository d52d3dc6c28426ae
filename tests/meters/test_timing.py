"""Interleaving: order, warm-up, pairing of rounds."""

from __future__ import annotations

import pytest

from nas.meters import interleaved


def test_rounds_interleave_and_turn_around() -> None:
    heard: list[str] = []

    def call(name: str):
        def run() -> float:
            heard.append(name)
            return float(len(heard))

        return run

    samples = interleaved({"a": call("a"), "b": call("b")}, repeats=3, warmup=1)
    assert heard == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert samples == {"a": [3.0, 6.0, 7.0], "b": [4.0, 5.0, 8.0]}


def test_a_drift_cancels_between_interleaved_callables() -> None:
    clock = 0.0

    def slower_and_slower(factor: float):
        def run() -> float:
            nonlocal clock
            clock += 0.01
            return factor * (1 + clock)

        return run

    samples = interleaved({"short": slower_and_slower(1), "long": slower_and_slower(2)}, repeats=8)
    ratio = sum(samples["long"]) / sum(samples["short"])
    assert ratio == pytest.approx(2, rel=1e-3)


def test_no_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats"):
        interleaved({}, repeats=0)
