"""Repeats in turn, so that a drift of the machine hits all that is compared alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence


def interleaved(
    callables: Mapping[str, Callable[[], float]], repeats: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Run every callable `warmup` times unheard, then once in each of `repeats` rounds.

    A callable returns its own time, in whatever unit the caller wants back. Every other round runs
    backwards, so that no callable always follows the same neighbour. Sample k of each callable is
    from round k.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    for _ in range(warmup):
        for call in callables.values():
            call()
    samples: dict[str, list[float]] = {name: [] for name in callables}
    for k in range(repeats):
        names = list(callables)[:: 1 if k % 2 == 0 else -1]
        for name in names:
            samples[name].append(callables[name]())
    return samples


def settled(run: Callable[[], float], short_ms: float = 20.0) -> Callable[[], float]:
    """`run`, which returns milliseconds, once unheard before each time that counts, where it is
    short: the threads of whatever ran before wait busily for a while, and take its processors."""
    last_ms = 0.0

    def run_settled() -> float:
        nonlocal last_ms
        if last_ms < short_ms:
            run()
        last_ms = run()
        return last_ms

    return run_settled


def round_paces(samples: Mapping[str, Sequence[float]]) -> list[float]:
    """The time of each round over the usual one: the middle, over all that ran in it, of a sample
    over the median of its series.

    `samples`: as `interleaved` returns them, of work that the same resource bounds. Few series
    follow their own noise: with one, every sample is its own pace.
    """
    usual = {name: statistics.median(series) for name, series in samples.items()}
    shares = [[s / usual[name] for s in series] for name, series in samples.items() if usual[name]]
    return [statistics.median(row) for row in zip(*shares, strict=True)]
