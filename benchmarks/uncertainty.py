"""Coverage of the reported interval, on synthetic libraries whose true losses are known.

    python benchmarks/uncertainty.py [--trials 200] [--confidence 0.9] [--resamples 20] [--quick]

A trial adds noise to every loss of a library of benchmarks/solver.py, chooses by the noisy losses,
and asks whether the interval holds the true summed loss of that choice. `measured` is the interval
without, `expected` the one with the correction for the winner's optimism. Noise is either 5 % of
every loss, independent and known by that figure alone, or it is read from the per-sequence scores
of n sequences that share a factor by sequence (skewed, as KL is).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.solver import Size, synthetic_problem
from nas.ir.problem import Problem
from nas.progress import SilentProgress
from nas.solvers import Resolver
from nas.uncertainty import Noise, RelativeNoise, SequenceNoise, objective_intervals, replicate

SIZES = (Size(30, 2, 4), Size(60, 2, 4))
NOISE = 0.05
Measure = Callable[[Problem, np.random.Generator], Noise]


@dataclass(frozen=True)
class Trial:
    """Whether either interval held the truth; true, measured and estimated figures in nats."""

    measured_holds: bool
    expected_holds: bool
    optimism: float
    estimated: float
    half_width: float


def with_losses(problem: Problem, losses: np.ndarray) -> Problem:
    """`problem` with other losses [options]."""
    values = iter(losses.tolist())
    slots = {
        slot: tuple(option.model_copy(update={"loss": next(values)}) for option in options)
        for slot, options in problem.slots.items()
    }
    return problem.model_copy(update={"slots": slots})


def relative(problem: Problem, generator: np.random.Generator) -> Noise:
    """Every loss off by an independent 5 %."""
    true = losses_of(problem)
    noisy = with_losses(problem, true * (1 + NOISE * generator.standard_normal(len(true))))
    return RelativeNoise(noisy, NOISE)


def by_sequences(count: int) -> Measure:
    """Scores of `count` sequences: a shared lognormal factor, and one of each candidate."""

    def measure(problem: Problem, generator: np.random.Generator) -> Noise:
        true = losses_of(problem)
        shared = generator.lognormal(0.0, 0.2, size=(count, 1))
        own = generator.lognormal(0.0, 0.3, size=(count, len(true)))
        scores = true * shared * own / np.exp((0.2**2 + 0.3**2) / 2)
        noisy = with_losses(problem, scores.mean(axis=0))
        names = [f"{s}/{o.variant}" for s, options in problem.slots.items() for o in options]
        return SequenceNoise(noisy, dict(zip(names, scores.T, strict=True)))

    return measure


def losses_of(problem: Problem) -> np.ndarray:
    """[options]"""
    return np.array([o.loss for options in problem.slots.values() for o in options])


def trials(
    problem: Problem, measure: Measure, count: int, confidence: float, resamples: int
) -> Iterator[Trial]:
    """`count` trials on one library."""
    generator, resolver = np.random.default_rng(0), Resolver(problem)
    true = resolver.losses
    for seed in range(count):
        noise = measure(problem, generator)
        pick = resolver.solve(noise.losses).pick
        drawn = replicate(resolver, pick, noise, resamples, seed, SilentProgress())
        measured, expected = objective_intervals(noise, pick, drawn, confidence)
        truth = float(true[pick].sum())
        yield Trial(
            measured_holds=measured.holds(truth),
            expected_holds=expected.holds(truth),
            optimism=truth - measured.estimate,
            estimated=expected.estimate - measured.estimate,
            half_width=measured.high - measured.estimate,
        )


def row(label: str, noise: str, found: list[Trial], seconds: float) -> str:
    def mean(name: str) -> float:
        return float(np.mean([getattr(trial, name) for trial in found]))

    return (
        f"{label:>8} {noise:>14} {len(found):>7} {100 * mean('measured_holds'):>10.1f} "
        f"{100 * mean('expected_holds'):>10.1f} {mean('optimism'):>10.5f} "
        f"{mean('estimated'):>10.5f} {mean('half_width'):>11.5f} {seconds:>8.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--resamples", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="the smallest library only")
    arguments = parser.parse_args()
    print(
        f"{'library':>8} {'noise':>14} {'trials':>7} {'measured %':>10} {'expected %':>10} "
        f"{'optimism':>10} {'estimated':>10} {'half width':>11} {'seconds':>8}"
    )
    ways: dict[str, Measure] = {"5 % of loss": relative}
    ways |= {f"{count} sequences": by_sequences(count) for count in (3, 8, 32)}
    for size in SIZES[:1] if arguments.quick else SIZES:
        for noise, measure in ways.items():
            began = time.perf_counter()
            problem = synthetic_problem(size, 2)
            settings = (arguments.trials, arguments.confidence, arguments.resamples)
            found = list(trials(problem, measure, *settings))
            print(row(size.label, noise, found, time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
