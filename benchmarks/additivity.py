"""Do predicted losses rank architectures as their realised KL does? And does refining pay?

    python benchmarks/additivity.py --text FILE --output RUN [--quick]

Builds the library of `examples/smollm2-benchmark.yaml` in RUN where it is not there yet, scores it
by both methods on a part of its scoring text, and asks, on text that neither has seen:

1. how one-backward scores follow replace-one scores, by range of KL, and what each costs;
2. how the exact sum, the one-backward sum and the sum with interactions follow the realised KL of
   architectures at four budgets of block compute, overall and within bands of equal cost;
3. what the solution of each realises at each budget, and what refining makes of it. Refining runs
   few networks, so it can afford all of the scoring text, as the pass does;
4. which whole layers to leave out: sums, Block Influence (arXiv 2403.03853), the best contiguous
   cut, and refinement.

All figures go to RUN/additivity.json, the tables to the README beside this file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._readme import install
from nas.blocks import KINDS
from nas.compiler import compile_run
from nas.config import load_config
from nas.console import Session
from nas.errors import NasError
from nas.ir import (
    Architecture,
    BlockSpec,
    Budget,
    KeepTeacher,
    Option,
    Problem,
    RefineStep,
    Skip,
    Slot,
    Solution,
)
from nas.passes import Artefacts, PassContext
from nas.passes.score import library_network, replace_one
from nas.run import RunDirectory
from nas.sensitivity import MixedNetwork, Realiser, expand
from nas.solvers import (
    MipSolver,
    Quadratic,
    improve,
    last_kept,
    option_names,
    refine_choice,
)

ROOT = Path(__file__).parent
BUDGETS, REMOVED = (0.8, 0.7, 0.6, 0.5), (2, 4, 6, 8)
EXHAUSTIVE, EXCHANGES = 2, 48
"""Layers left out of which every set can be run (435 of 30 layers), and exchanges of one layer that
are run about a refined set, those first that the expansion thinks most of."""
JUDGED, FRESH = 3, 12
"""Windows that candidates are scored on, and windows that nobody has seen."""
RANGES = ((0.0, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, np.inf))
BAND = 0.02
Choice = dict[str, str]


def main() -> int:
    """Run all parts; the exit code is that of a `nas run`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="run directory")
    parser.add_argument("--config", type=Path, default=ROOT / "../examples/smollm2-benchmark.yaml")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--quick", action="store_true", help="two budgets, few architectures")
    options = parser.parse_args()
    source = f"data.sources=[{{kind: file, path: {options.text.resolve()}}}]"
    try:
        config = load_config(options.config, [source, *options.overrides])
        run = RunDirectory.create(options.output)
        compile_run(config, run, Session().progress, stop="build")
        study = Study(PassContext(config, run), quick=options.quick)
        path = options.output / "additivity.json"
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for found in study.parts(earlier):
            path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    table = "\n".join(lines(found))
    print(table)
    if not options.quick:
        install("additivity", table)
    return 0


class Study:
    """A library, text to judge by, and fresh text to realise on; both are the run's scoring text
    and training text that the library was not built on."""

    def __init__(self, context: PassContext, *, quick: bool) -> None:
        self.quick, self.budgets = quick, BUDGETS[::2] if quick else BUDGETS
        self.removed = REMOVED[:2] if quick else REMOVED
        self.candidates = Artefacts(context).candidates
        self.specs: dict[str, BlockSpec] = {c.id: c.spec for c in self.candidates}
        self.network: MixedNetwork = library_network(context)
        self.shape = self.network.teacher.shape
        self.slots = self.network.teacher.slot_ids
        train = context.text.train
        used = context.config.build.tokens // train.shape[1]
        device = self.network.teacher.device
        self.judged = context.text.score[:JUDGED].to(device)
        self.refining = (self.judged if quick else context.text.score).to(device)
        self.fresh = train[used : used + FRESH].to(device)
        self.tokens = train.shape[1]
        self.realise_judged = Realiser(self.network, self.judged)
        self.realise_refining = Realiser(self.network, self.refining)
        self.realise_fresh = Realiser(self.network, self.fresh)
        self.random = np.random.default_rng(0)

    def parts(self, earlier: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What has been found after each part; the budgets use the scores. What an `earlier` call
        under the same conditions has found of the depth is taken over."""
        found: dict[str, Any] = {
            "conditions": {
                "judged_tokens": self.judged.numel(),
                "refining_tokens": self.refining.numel(),
                "fresh_tokens": self.fresh.numel(),
                "threads": torch.get_num_threads(),
            }
        }
        same = earlier.get("conditions") == found["conditions"] and not self.quick
        found["depth"] = (same and earlier.get("depth")) or self.depth()
        yield found
        found["scores"] = self.scores()
        print(json.dumps(found["scores"]), flush=True)
        yield found
        found["solutions"], found["rows"] = self.at_budgets()
        found["ranking"] = ranking(found["rows"])
        yield found

    def scores(self) -> dict[str, Any]:
        """Part 1; keeps the exact scores and the expansion."""
        by_slot = {slot: [c for c in self.candidates if c.slot == slot] for slot in self.slots}
        swaps = {k: [c.spec for c in by_slot[slot]] for k, slot in enumerate(self.slots)}
        draws, fast_s, began = 4 if self.quick else 16, 0.0, time.perf_counter()
        self.exact = {}
        for n, (slot, columns) in enumerate(replace_one(self.network, by_slot, self.judged, 8)):
            self.exact |= {f"{slot.id}/{label}": float(kl.mean()) for label, kl in columns.items()}
            if n == len(self.slots) // 2:  # both meet the same machine
                started, teacher = time.perf_counter(), Architecture()
                self.expansion = expand(
                    self.network, teacher, swaps, self.judged, draws=draws, seed=0
                )
                fast_s = time.perf_counter() - started
        exact_s = time.perf_counter() - began - fast_s
        single = self.expansion.single().mean(axis=0).tolist()
        self.fast = dict(zip(self.expansion.names, single, strict=True))
        pairs = np.array([(self.exact[name], self.fast[name]) for name in self.exact])
        return {
            "candidates": len(pairs),
            "draws": draws,
            "replace_one_s": exact_s,
            "one_backward_s": fast_s,
            "spearman": spearman(*pairs.T),
            "ranges": [range_row(pairs, low, high) for low, high in RANGES],
        }

    def at_budgets(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Parts 2 and 3: solutions of each score, refined ones, and neighbours of equal cost."""
        solutions, rows = [], []
        for share in self.budgets:
            exact, fast = (self.problem(share, losses) for losses in (self.exact, self.fast))
            model = self.quadratic(fast)
            best, start = (MipSolver().solve(problem) for problem in (exact, fast))
            choices = {
                "exact sum": best.choice,
                "exact, with interactions": improve(exact, self.corrected(exact), best.choice),
                "one-backward sum": start.choice,
                "one-backward, with interactions": improve(fast, model, start.choice),
                "refined from the exact sum": self.refined(exact, best),
            }
            local = self.about(exact, best.choice)
            for name, choice in choices.items():
                row = self.row(share, choice, exact, fast, model, local)
                solutions.append({"method": name, **row})
                print(name, row, flush=True)
            count = 4 if self.quick else 9
            for choice in self.neighbours(fast, list(choices.values()), count):
                rows.append(self.row(share, choice, exact, fast, model, local))
            distinct = {json.dumps(c, sort_keys=True): i for i, c in enumerate(choices.values())}
            rows += [solutions[i - len(choices)] for i in distinct.values()]
        return solutions, rows

    def problem(self, share: float, losses: Mapping[str, float]) -> Problem:
        """The selection problem under `share` of the teacher's block compute."""
        options: dict[str, tuple[Option, ...]] = {}
        for slot in self.slots:
            found = [("teacher", 0.0, self.gflops(slot, KeepTeacher()))]
            found += [
                (c.spec.label, losses[c.id], self.gflops(slot, c.spec))
                for c in self.candidates
                if c.slot == slot
            ]
            options[slot.id] = tuple(
                Option(variant=v, loss=loss, costs={"gflops": cost}) for v, loss, cost in found
            )
        total = sum(self.gflops(slot, KeepTeacher()) for slot in self.slots)
        limit = Budget(name="gflops", cost="gflops", limit=share * total)
        return Problem(slots=options, budgets=(limit,))

    def gflops(self, slot: Slot, spec: BlockSpec) -> float:
        """Work of a block on a prompt as long as a window, each query seeing half of it."""
        concrete = self.shape.resolve(slot, spec)
        kind = KINDS[concrete.kind]
        return kind.flops(self.shape, slot.kind, concrete, self.tokens, self.tokens // 2) / 1e9

    def quadratic(self, problem: Problem) -> Quadratic:
        """The expansion about the teacher, over the problem's options."""
        return self.expansion.quadratic([[name] for name in option_names(problem)])

    def corrected(self, problem: Problem) -> Quadratic:
        """The expansion about the teacher, its single swaps replaced by the losses of `problem`."""
        model = self.quadratic(problem)
        losses = [o.loss for group in problem.slots.values() for o in group]
        return Quadratic(np.array(losses) - np.diag(model.pair), model.pair)

    def refined(self, problem: Problem, start: Solution) -> Choice:
        """Sequential re-linearisation on the scoring text, as the pass refine does it."""
        prices = problem.prices(start.duals)

        def nearest(choice: Mapping[str, str]) -> Problem:
            slots = {}
            for slot, options in problem.slots.items():
                ranked = sorted(
                    options, key=lambda o: o.loss + sum(p * o.costs[c] for c, p in prices.items())
                )
                wanted = {choice[slot], "teacher", *(o.variant for o in ranked[:5])}
                slots[slot] = tuple(o for o in options if o.variant in wanted)
            return problem.model_copy(update={"slots": slots})

        def about(choice: Mapping[str, str], n: int) -> tuple[Problem, Quadratic]:
            here = nearest(choice)
            swaps = {
                k: [self.specs.get(f"{s.id}/{o.variant}", KeepTeacher()) for o in here.slots[s.id]]
                for k, s in enumerate(self.slots)
            }
            present = self.architecture(choice)
            found = expand(self.network, present, swaps, self.refining, draws=8, seed=n)
            return here, found.quadratic([[name] for name in option_names(here)])

        steps = refine_choice(
            start.choice,
            expand=about,
            realise=lambda choice: self.kl(choice, self.realise_refining),
            rounds=1 if self.quick else 3,
            radius=12,
            swaps=4,
        )
        return last_kept(steps).choice

    def neighbours(self, problem: Problem, near: Sequence[Choice], count: int) -> list[Choice]:
        """Random choices between the solutions, within the band below the budget."""
        (budget,), found = problem.budgets, []
        options = {slot: {o.variant: o for o in group} for slot, group in problem.slots.items()}
        for _ in range(10_000):
            if len(found) == count:
                break
            base = dict(near[self.random.integers(len(near))])
            for slot in self.random.choice(list(base), size=self.random.integers(4, 16)):
                base[slot] = str(self.random.choice(list(options[slot])))
            cost = sum(options[slot][v].costs["gflops"] for slot, v in base.items())
            worst = max(self.fast.get(f"{slot}/{v}", 0.0) for slot, v in base.items())
            if (1 - 2 * BAND) * budget.limit <= cost <= budget.limit and worst < 0.5:
                found.append(base)
        return found

    def about(self, problem: Problem, choice: Choice) -> tuple[float, Quadratic]:
        """The KL of a choice on the judged text, and its change to second order about it."""
        swaps = {
            k: [self.specs.get(f"{s.id}/{o.variant}", KeepTeacher()) for o in problem.slots[s.id]]
            for k, s in enumerate(self.slots)
        }
        present = self.architecture(choice)
        found = expand(self.network, present, swaps, self.judged, draws=8, seed=0)
        model = found.quadratic([[name] for name in option_names(problem)])
        return self.kl(choice, self.realise_judged), model

    def row(
        self,
        share: float,
        choice: Choice,
        exact: Problem,
        fast: Problem,
        model: Quadratic,
        local: tuple[float, Quadratic],
    ) -> dict[str, Any]:
        """Predictions for a choice, and what it realises on both texts."""
        names = option_names(fast)
        at = np.array([names.index(f"{slot}/{v}") for slot, v in choice.items()])
        sums = [
            sum(o.loss for s, g in p.slots.items() for o in g if o.variant == choice[s])
            for p in (exact, fast)
        ]
        return {
            "share": share,
            "exact": sums[0],
            "fast": sums[1],
            "pairs": model.value(at),
            "exact_pairs": self.corrected(exact).value(at),
            "local": local[0] + local[1].value(at),
            "exact_local": (sums[0] + local[0] + local[1].value(at)) / 2,
            "judged": self.kl(choice, self.realise_judged),
            "fresh": self.kl(choice, self.realise_fresh),
        }

    def kl(self, choice: Mapping[str, str], realise: Realiser) -> float:
        """KL of the whole network with a choice."""
        return float(realise(self.architecture(choice)).mean())

    def architecture(self, choice: Mapping[str, str]) -> Architecture:
        """A choice as an architecture."""
        named = {slot: self.specs.get(f"{slot}/{variant}") for slot, variant in choice.items()}
        return Architecture(choices={slot: spec for slot, spec in named.items() if spec})

    def depth(self) -> list[dict[str, Any]]:
        """Part 4: realised KL of the layers that each method leaves out."""
        losses = [self.kl_without([layer], self.realise_judged) for layer in range(self.layers)]
        influence, found = self.block_influence(), []
        for removed in self.removed:
            by_sum = sorted(np.argsort(losses)[:removed].tolist())
            by_influence = sorted(np.argsort(influence)[:removed].tolist())
            starts = [by_sum, by_influence, self.best_cut(removed)]
            picks = dict(zip(("sum", "block influence", "contiguous cut"), starts, strict=True))
            picks["refined"] = self.refined_layers(losses, starts)
            if removed == EXHAUSTIVE:
                picks["least of all sets"] = self.least(removed)
            for name, layers in picks.items():
                row = {
                    "removed": removed,
                    "method": name,
                    "layers": layers,
                    "judged": self.kl_without(layers, self.realise_judged),
                    "fresh": self.kl_without(layers, self.realise_fresh),
                }
                found.append(row)
                print(row, flush=True)
        return found

    @property
    def layers(self) -> int:
        return int(self.shape.layers)

    def kl_without(self, layers: Iterable[int], realise: Realiser) -> float:
        """KL of the teacher without some whole layers."""
        return float(realise(self.without(layers)).mean())

    def without(self, layers: Iterable[int]) -> Architecture:
        gone = set(layers)
        return Architecture(choices={s.id: Skip() for s in self.slots if s.layer in gone})

    def best_cut(self, removed: int) -> list[int]:
        """The contiguous run with the least realised KL on the judged text."""
        runs = [list(range(i, i + removed)) for i in range(self.layers - removed + 1)]
        return min(runs, key=lambda run: self.kl_without(run, self.realise_judged))

    def least(self, removed: int) -> list[int]:
        """The set of so many layers with the least realised KL on the judged text: all are run."""
        sets = map(list, itertools.combinations(range(self.layers), removed))
        return min(sets, key=lambda layers: self.kl_without(layers, self.realise_judged))

    @torch.no_grad()
    def block_influence(self) -> list[float]:
        """1 - cos between a layer's input and output, mean over tokens (ShortGPT)."""
        states = [self.network.teacher.embed_tokens(self.judged)]
        walk = self.network.walk(states[0], Architecture(), self.judged)
        states += [state for *_, state in itertools.islice(walk, 1, None, 2)]
        cosine = torch.nn.functional.cosine_similarity
        return [1 - float(cosine(a, b, dim=-1).mean()) for a, b in itertools.pairwise(states)]

    def refined_layers(self, losses: Sequence[float], starts: Sequence[list[int]]) -> list[int]:
        """Refinement over whole layers from each start; the least KL on the judged text."""
        keep = Option(variant="teacher", loss=0.0, costs={"layers": 1.0})
        removed = len(starts[0])
        problem = Problem(
            slots={
                str(i): (keep, Option(variant="skip", loss=loss, costs={"layers": 0.0}))
                for i, loss in enumerate(losses)
            },
            budgets=(Budget(name="layers", cost="layers", limit=float(self.layers - removed)),),
        )

        def gone(choice: Mapping[str, str]) -> list[int]:
            return [int(i) for i, variant in choice.items() if variant == "skip"]

        def about(choice: Mapping[str, str], n: int) -> tuple[Problem, Quadratic]:
            both: list[BlockSpec] = [KeepTeacher(), Skip()]
            swaps = dict.fromkeys(range(len(self.slots)), both)
            here = self.without(gone(choice))
            found = expand(self.network, here, swaps, self.judged, draws=8, seed=n)
            groups = [
                [f"layers.{i}.{kind}/{o.variant}" for kind in ("attention", "ffn")]
                for i, group in problem.slots.items()
                for o in group
            ]
            return problem, found.quadratic(groups)

        def refined(start: Sequence[int], swaps: int) -> RefineStep:
            steps = refine_choice(
                {str(i): "skip" if i in start else "teacher" for i in range(self.layers)},
                expand=about,
                realise=lambda choice: self.kl_without(gone(choice), self.realise_judged),
                rounds=2 if self.quick else 8,
                radius=8,
                swaps=swaps,
            )
            return last_kept(steps)

        near = min((refined(start, 12) for start in starts), key=lambda step: step.realised_kl)
        if self.quick:
            return sorted(gone(near.choice))
        return sorted(gone(refined(gone(near.choice), EXCHANGES).choice))


def range_row(pairs: np.ndarray, low: float, high: float) -> dict[str, Any]:
    """Agreement of the scores of candidates whose exact KL lies in a range."""
    rows = pairs[(pairs[:, 0] >= low) & (pairs[:, 0] < high)]
    ratio = float(np.median(rows[:, 1] / rows[:, 0]))
    span = f"{low} to {high}" if np.isfinite(high) else f"above {low}"
    return {"kl": span, "count": len(rows), "spearman": spearman(*rows.T), "ratio": ratio}


def ranking(rows: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Correlation of each prediction with the realised KL on fresh text, with 90 % intervals."""
    found = []
    for method in ("exact", "fast", "pairs", "exact_pairs", "local", "exact_local", "judged"):
        x = np.array([row[method] for row in rows])
        y = np.array([row["fresh"] for row in rows])
        share = np.array([row["share"] for row in rows])
        found.append(
            {
                "method": method,
                "architectures": len(rows),
                "pearson": interval(pearson, x, y),
                "spearman": interval(spearman, x, y),
                "spearman within budgets": interval(within, x, y, share),
            }
        )
    return found


def within(x: np.ndarray, y: np.ndarray, share: np.ndarray) -> float:
    """Spearman within each budget's band of cost, averaged."""
    groups = [share == s for s in np.unique(share)]
    return float(np.mean([spearman(x[g], y[g]) for g in groups if g.sum() > 2]))


def interval(statistic: Any, *columns: np.ndarray) -> list[float]:
    """Value, and the 5 % and 95 % points of 1000 resamples of the rows."""
    random, n = np.random.default_rng(0), len(columns[0])
    draws = []
    for _ in range(1000):
        rows = random.integers(n, size=n)
        draws.append(statistic(*(c[rows] for c in columns)))
    low, high = np.nanquantile(draws, [0.05, 0.95])
    return [statistic(*columns), float(low), float(high)]


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    return pearson(ranks(x), ranks(y))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=float)


def lines(found: Mapping[str, Any]) -> Iterable[str]:
    """The tables."""
    scores, conditions = found["scores"], found["conditions"]
    yield (
        f"{scores['candidates']} candidates judged on {conditions['judged_tokens']:,} tokens, "
        f"refined on {conditions['refining_tokens']:,}, "
        f"architectures realised on {conditions['fresh_tokens']:,} fresh tokens; "
        f"{conditions['threads']} threads.\n"
    )
    yield (
        f"Replace-one {scores['replace_one_s']:.0f} s, one-backward with {scores['draws']} draws "
        f"{scores['one_backward_s']:.0f} s; Spearman {scores['spearman']:.3f} overall.\n"
    )
    yield "| exact KL | candidates | Spearman | median one-backward / exact |\n|---|---|---|---|"
    for row in scores["ranges"]:
        yield f"| {row['kl']} | {row['count']} | {row['spearman']:.3f} | {row['ratio']:.2f} |"
    yield "\n| prediction | architectures | Pearson | Spearman | Spearman within budgets |"
    yield "|---|---|---|---|---|"
    for row in found["ranking"]:
        cells = [
            "{:.3f} ({:.3f} to {:.3f})".format(*row[name])
            for name in ("pearson", "spearman", "spearman within budgets")
        ]
        yield f"| {row['method']} | {row['architectures']} | {' | '.join(cells)} |"
    yield "\n| block compute | chosen by | KL on judged text | KL on fresh text |"
    yield "|---|---|---|---|"
    for row in found["solutions"]:
        figures = f"{row['judged']:.4f} | {row['fresh']:.4f}"
        yield f"| {row['share']:.1f} | {row['method']} | {figures} |"
    yield "\n| layers out | chosen by | KL on judged text | KL on fresh text | which |"
    yield "|---|---|---|---|---|"
    for row in found["depth"]:
        which = " ".join(map(str, row["layers"]))
        figures = f"{row['judged']:.3f} | {row['fresh']:.3f}"
        yield f"| {row['removed']} | {row['method']} | {figures} | {which} |"


if __name__ == "__main__":
    sys.exit(main())
