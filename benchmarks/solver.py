"""Solver benchmark on synthetic libraries: seconds, gap, and each baseline against the optimum.

    python benchmarks/solver.py [--quick] [--diverse | --joint] [--seed S]

A library has 32 or 80 layers; an option of a layer joins an attention and a feed-forward variant.
Its loss falls with the compute it keeps, scaled by a lognormal sensitivity of the layer, with
noise; its costs are runtime, memory (weights and KV cache) and energy. Budgets ask for a share of
what the largest network takes.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nas.errors import PassError
from nas.ir.problem import Budget, Option, Problem
from nas.solvers import create_solver, diverse, diverse_jointly, verify, verify_joint

BASELINES = ("greedy", "equal_split", "evolution", "random", "depth_cut")
COSTS = ("runtime_ms", "memory_mib", "energy_mj")
SHARES = {2: (0.5, 0.5), 3: (0.5, 0.5, 0.35)}


@dataclass(frozen=True)
class Size:
    """Layers, and attention times feed-forward variants a layer."""

    slots: int
    attention: int
    feed_forward: int

    @property
    def label(self) -> str:
        return f"{self.slots}x{self.attention * self.feed_forward}"


SMALL = Size(6, 2, 2)
SIZES = (Size(32, 6, 9), Size(80, 4, 4), Size(80, 6, 9), Size(80, 14, 27))


def synthetic_problem(size: Size, budgets: int, seed: int = 0) -> Problem:
    """A seeded problem of the given size with two or three budgets."""
    generator = np.random.default_rng(seed)
    slots = {
        f"layers.{i}": _options(size, generator, float(generator.lognormal(0.0, 1.0)))
        for i in range(size.slots)
    }
    limits = tuple(
        Budget(
            name=cost,
            cost=cost,
            limit=share * sum(max(o.costs[cost] for o in options) for options in slots.values()),
        )
        for cost, share in zip(COSTS, SHARES[budgets], strict=False)
    )
    return Problem(slots=slots, budgets=limits)


def _options(size: Size, generator: np.random.Generator, weight: float) -> tuple[Option, ...]:
    keep_attention = np.linspace(1.0, 0.0, size.attention)
    keep_ffn = np.linspace(1.0, 0.0, size.feed_forward)
    lean, bend = generator.uniform(0.2, 0.8), generator.uniform(1.2, 3.0)
    options = []
    for a, attention in enumerate(keep_attention):
        for f, ffn in enumerate(keep_ffn):
            lost = lean * (1 - attention) ** bend + (1 - lean) * (1 - ffn) ** bend
            noise = generator.lognormal(0.0, 0.15, size=4)
            options.append(
                Option(
                    variant=_variant("attn", a, attention) + "-" + _variant("ffn", f, ffn),
                    loss=0.1 * weight * lost * noise[0],
                    costs={
                        "runtime_ms": (0.1 + 0.7 * attention + 0.3 * ffn) * noise[1],
                        "memory_mib": (20 + 150 * attention + 650 * ffn) * (0.9 + 0.1 * noise[2]),
                        "energy_mj": (5 + 50 * attention + 60 * ffn) * noise[3] ** 2,
                    },
                )
            )
    return tuple(options)


def _variant(part: str, index: int, kept: float) -> str:
    return f"{part}_{index}" if kept else f"{part}_no_op"


def baseline_ratio(problem: Problem, name: str, optimum: float) -> str:
    """Loss of a baseline over the optimum's, as text; "none" when it finds nothing feasible."""
    try:
        solution = create_solver(name).solve(problem, time_limit_s=10)
    except PassError:
        return "none"
    verify(problem, solution)
    return "none" if solution.objective is None else f"{solution.objective / optimum:.3f}"


def run_size(size: Size, budgets: int, seed: int, baselines: tuple[str, ...]) -> str:
    problem = synthetic_problem(size, budgets, seed)
    began = time.perf_counter()
    solution = create_solver("mip").solve(problem, time_limit_s=60)
    seconds = time.perf_counter() - began
    verify(problem, solution)
    if solution.objective is None or solution.gap is None or solution.lp_bound is None:
        return f"{size.label:>8} {budgets:>7} {solution.status}"
    lp = 1 - solution.lp_bound / solution.objective
    ratios = [baseline_ratio(problem, name, solution.objective) for name in baselines]
    cells = "".join(f" {ratio:>11}" for ratio in ratios)
    return (
        f"{size.label:>8} {budgets:>7} {solution.status:>9} {seconds:>8.2f} "
        f"{solution.gap:>9.1e} {lp:>9.1e}{cells}"
    )


def run_diverse(size: Size, budgets: int, seed: int, time_limit_s: float) -> list[str]:
    """Five solutions that differ in a fifth of the slots, one line each and one for the total."""
    problem = synthetic_problem(size, budgets, seed)
    began = time.perf_counter()
    found = diverse(problem, 5, size.slots // 5, time_limit_s=time_limit_s)
    seconds = time.perf_counter() - began
    lines = []
    for i, solution in enumerate(found, start=1):
        verify(problem, solution)
        lines.append(
            f"{size.label:>8} {budgets:>7} {solution.status:>9} {solution.seconds:>8.2f} "
            f"{solution.gap or 0.0:>9.1e} {solution.objective:>9.6f}  ({i} of {len(found)})"
        )
    return [*lines, f"{size.label:>8} {budgets:>7} {'total':>9} {seconds:>8.2f}"]


def run_joint(size: Size, budgets: int, differ: int, seeds: range, time_limit_s: float) -> str:
    """Three solutions at once against greedy selection, over several seeds."""
    saved, gaps, more = [], [], 0
    for seed in seeds:
        problem = synthetic_problem(size, budgets, seed)
        found = diverse_jointly(problem, 3, differ, time_limit_s=time_limit_s)
        verify_joint(problem, found)
        gaps.append(found.gap or 0.0)
        if found.objective is None or found.greedy_objective is None:
            more += found.objective is not None
        else:
            saved.append(1 - found.objective / found.greedy_objective)
    better = sum(share > 1e-6 for share in saved)
    mean, most = (100 * np.mean(saved), 100 * max(saved)) if saved else (0.0, 0.0)
    return (
        f"{size.label:>8} {budgets:>7} {differ:>6} {better:>6} of {len(seeds)} {mean:>7.2f} % "
        f"{most:>7.2f} % {more:>6} {max(gaps):>9.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small sizes, no evolution")
    parser.add_argument("--diverse", action="store_true", help="five diverse solutions of 80x54")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--joint", action="store_true", help="three solutions found jointly")
    arguments = parser.parse_args()
    if arguments.joint:
        header = f"{'library':>8} {'budgets':>7} {'differ':>6} {'better':>10} {'mean':>9}"
        print(f"{header} {'most':>9} {'more':>6} {'worst gap':>9}")
        seeds = range(arguments.seed, arguments.seed + 6)
        for size in (SMALL,) if arguments.quick else (SMALL, *SIZES[:3]):
            for differ in (size.slots // 3, 2 * size.slots // 3, size.slots):
                print(run_joint(size, 2, differ, seeds, 6), flush=True)
        return
    if arguments.diverse:
        header = f"{'library':>8} {'budgets':>7} {'status':>9} {'seconds':>8} {'gap':>9}"
        print(f"{header} {'loss':>9}")
        for budgets in (2, 3):
            print("\n".join(run_diverse(SIZES[2], budgets, arguments.seed, 12)), flush=True)
        return
    baselines = tuple(b for b in BASELINES if not (arguments.quick and b == "evolution"))
    names = "".join(f" {name:>11}" for name in baselines)
    header = f"{'library':>8} {'budgets':>7} {'status':>9} {'seconds':>8} {'gap':>9} {'LP gap':>9}"
    print(header + names)
    for size in SIZES[:2] if arguments.quick else SIZES:
        for budgets in (2, 3):
            print(run_size(size, budgets, arguments.seed, baselines), flush=True)


if __name__ == "__main__":
    main()
