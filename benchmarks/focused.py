"""What do focused scores realise, and what do they cost beside replace-one scores?

    python benchmarks/focused.py --text FILE --output RUN [--shares 0.1 0.2 0.3] [--quick]

Takes the library of benchmarks/additivity.py (built in RUN where it is not there), scores all of it
by replace-one and by one-backward, each candidate timed, and solves for four budgets of block
compute with either and with focused scores at some shares of replace-one. A focused search asks for
the losses that were measured, so its time is that of one-backward, of what it asked for, and of a
walk over the teacher for each of its rounds. What is chosen is realised on the judged text and on
fresh text. Scores go to RUN/focused_scores.json, from which a second call goes on; figures to
RUN/focused.json, the table to the README beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._readme import install
from benchmarks.additivity import Study
from nas.compiler import compile_run
from nas.config import load_config
from nas.console import Session
from nas.errors import NasError
from nas.ir import Architecture, Problem
from nas.passes import PassContext
from nas.passes.score import SlotScorer
from nas.run import RunDirectory
from nas.sensitivity import expand
from nas.solvers import MipSolver
from nas.trials import try_nearby

ROOT = Path(__file__).parent
DRAWS = 16


def main() -> int:
    """Score, solve, realise; the exit code is that of a `nas run`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="run directory")
    parser.add_argument("--config", type=Path, default=ROOT / "../examples/smollm2-benchmark.yaml")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2, 0.3])
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--quick", action="store_true", help="two budgets; the README stays")
    options = parser.parse_args()
    source = f"data.sources=[{{kind: file, path: {options.text.resolve()}}}]"
    try:
        config = load_config(options.config, [source, *options.overrides])
        run = RunDirectory.create(options.output)
        compile_run(config, run, Session().progress, stop="build")
        study = Study(PassContext(config, run), quick=options.quick)
        scores = measured(study, options.output / "focused_scores.json")
        rows = list(solved(study, scores, options.shares))
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    (options.output / "focused.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    table = "\n".join(lines(scores, rows))
    print(table)
    if not options.quick:
        install("focused", table)
    return 0


def measured(study: Study, path: Path) -> dict[str, Any]:
    """Both scores of every candidate and their seconds; what `path` holds is taken over."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    by_slot = {slot: [c for c in study.candidates if c.slot == slot] for slot in study.slots}
    if "fast" not in found:
        swaps = {k: [c.spec for c in by_slot[slot]] for k, slot in enumerate(study.slots)}
        began = time.perf_counter()
        expansion = expand(study.network, Architecture(), swaps, study.judged, draws=DRAWS, seed=0)
        means = expansion.single().mean(axis=0).tolist()
        found = {"fast": dict(zip(expansion.names, means, strict=True))}
        found |= {"fast_s": time.perf_counter() - began, "exact": {}, "seconds": {}}
    exact, seconds = found["exact"], found["seconds"]
    left = {s: group for s, group in by_slot.items() if any(c.id not in exact for c in group)}
    if not left and "setup_s" in found:
        return found
    began = time.perf_counter()
    scorer = SlotScorer(study.network, study.judged, 8)
    found["setup_s"], began = time.perf_counter() - began, time.perf_counter()
    for _ in scorer.states({study.slots[-1]: None}):
        found["walk_s"] = time.perf_counter() - began
    path.write_text(json.dumps(found), encoding="utf-8")
    for k, slot, state in scorer.states(left) if left else ():
        columns = scorer.kl(k, state, [c.spec for c in left[slot]])
        began = time.perf_counter()
        for candidate, values in zip(left[slot], columns, strict=True):
            exact[candidate.id] = float(values.mean())
            seconds[candidate.id] = time.perf_counter() - began
            began = time.perf_counter()
        path.write_text(json.dumps(found), encoding="utf-8")
    return found


def solved(
    study: Study, scores: Mapping[str, Any], shares: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """One row a budget and method."""
    exact, fast, seconds = scores["exact"], scores["fast"], scores["seconds"]
    whole_s = whole_seconds(scores)
    for budget in study.budgets:
        known = {
            "replace-one": (exact, len(exact), whole_s),
            "one-backward": (fast, 0, scores["fast_s"]),
        }
        for share in shares:
            trials = try_nearby(
                study.problem(budget, fast),
                fast,
                lambda names: {name: exact[name] for name in names},
                most=math.ceil(share * len(exact)),
            )
            spent = sum(seconds[name] for name in trials.known)
            spent += scores["fast_s"] + scores["setup_s"] + len(trials.rounds) * scores["walk_s"]
            found = (trials.means, len(trials.known), spent)
            known[f"focused, up to {share:.0%}"] = found
        for method, (losses, run, spent) in known.items():
            row = realised(study, study.problem(budget, losses), exact)
            row |= {"share": budget, "method": method, "run": run, "seconds": spent}
            row["time"] = spent / whole_s
            print(row, flush=True)
            yield row


def whole_seconds(scores: Mapping[str, Any]) -> float:
    """Replace-one of all candidates, from one walk."""
    return float(scores["setup_s"] + scores["walk_s"] + sum(scores["seconds"].values()))


def realised(study: Study, problem: Problem, exact: Mapping[str, float]) -> dict[str, Any]:
    """The choice for a problem, the sum of its replace-one losses, and its KL on both texts."""
    choice = MipSolver().solve(problem).choice
    return {
        "sum": sum(exact.get(f"{slot}/{variant}", 0.0) for slot, variant in choice.items()),
        "judged": study.kl(choice, study.realise_judged),
        "fresh": study.kl(choice, study.realise_fresh),
    }


def lines(scores: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The table."""
    best = {row["share"]: row for row in rows if row["method"] == "replace-one"}
    yield (
        f"{len(scores['exact'])} candidates; replace-one of all of them takes "
        f"{whole_seconds(scores):.0f} s.\n"
    )
    yield (
        "| block compute | scores | run in place | time | sum of replace-one, over the least "
        "| KL on judged text | KL on fresh text |\n|---|---|---|---|---|---|---|"
    )
    for row in rows:
        over = row["sum"] / best[row["share"]]["sum"]
        yield (
            f"| {row['share']} | {row['method']} | {row['run']} | {row['time']:.1%} | {over:.4f} "
            f"| {row['judged']:.4f} | {row['fresh']:.4f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
