"""Interleaving: order, warm-up, pairing of rounds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nas.ir import Latency
from nas.meters import interleaved, round_paces, settled
from tests.meters.costs import conditions


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


def test_the_pace_of_a_round_is_what_all_its_runs_share() -> None:
    paces = [1.0, 1.4, 1.0, 0.8, 1.0]
    bases = {"a": 10.0, "b": 3.0, "c": 70.0}
    samples = {name: [base * pace for pace in paces] for name, base in bases.items()}
    samples["b"][0] *= 5  # one run's own trouble is not the round's
    assert round_paces(samples) == pytest.approx(paces)


def test_the_median_is_at_the_usual_pace() -> None:
    slow = Latency.of([14.0, 10.0, 14.0, 15.0, 10.1], conditions(), pace=[1.4, 1, 1.4, 1.5, 1])
    assert slow.median_ms == pytest.approx(10.0)
    assert Latency.of([14.0, 10.0, 14.0], conditions()).median_ms == 14.0
    with pytest.raises(ValidationError, match="2 samples, but 1 paces"):
        Latency.of([1.0, 2.0], conditions(), pace=[1.0])


def test_a_short_run_counts_after_one_unheard() -> None:
    times = iter([9.0, 3.0, 8.0, 4.0])
    run = settled(lambda: next(times))
    assert [run(), run()] == [3.0, 4.0]


def test_a_long_run_is_not_made_twice() -> None:
    times = iter([90.0, 80.0, 70.0])
    run = settled(lambda: next(times))
    assert [run(), run()] == [80.0, 70.0]
