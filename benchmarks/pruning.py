"""Does pruning find the same student for less?

    python benchmarks/pruning.py --text FILE --output FOLDER [--quick | --halving]

Compiles SmolLM2 up to its refined solution twice for each of three budgets: once with every
candidate trained and scored by replace-one, once with `prune.keep`. Says how many candidates were
trained, what build and score (and pruning) took, and what the students realise on held-out text, as
the summed scores choose them and as refined; and how each proxy ranks the candidates by trained
local error and replace-one KL. Figures go to FOLDER/pruning.json, the tables to the README beside
this file.

`--halving` leaves out the run of every candidate. One pruned run is compiled with and without
rungs of training, then its student is put together with and without pairs that learn together.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._readme import install
from nas.blocks import KINDS
from nas.compiler import compile_run
from nas.config import RunConfig, load_config
from nas.console import Session
from nas.errors import NasError
from nas.ir import Solution
from nas.passes import Artefacts, PassContext
from nas.passes.assemble import _last_hidden, assembled
from nas.passes.score import library_network, scoring_copy
from nas.passes.solve import architecture_of
from nas.run import RunDirectory
from nas.sensitivity import Realiser

Floats = NDArray[np.floating[Any]]

ROOT = Path(__file__).parent
PASSES = ("prune", "build", "score")
SPEEDUPS = (1.5, 1.3, 1.8)
SETTINGS = (
    "score.method=replace_one",
    "score.batch_sequences=8",
    "data.score_sequences=6",
    # One table of costs for all runs, so that they differ in their candidates alone.
    "target.hardware=x86-avx512",
    "target.meter=roofline",
    "build.tokens=12288",
    "build.epochs=4",
    "refine.rounds=1",
    "baselines=[]",
)
PRUNING = ("prune.trials=0.17",)
WINDOWS = 16
"""Held-out sequences that students are judged on."""

HALVING = (
    f"budgets.speedup={SPEEDUPS[0]}",
    "build.tokens=6144",
    "data.score_sequences=3",
    "score.method=one_backward",
    "score.draws=4",
    "refine.rounds=0",
    "prune.draws=4",
    "prune.trials=0.08",
    "assemble.refit_tokens=6144",
    "assemble.couple_tokens=6144",
    "assemble.couple_learning_rate=3e-4",
)
RUNGS = ("build.rungs=3",)
PAIRS = ("assemble.couple_epochs=2",)


def main() -> int:
    """Run all parts; the exit code is that of a `nas run`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--config", type=Path, default=ROOT / "../examples/smollm2-benchmark.yaml")
    parser.add_argument("--keep", type=float, default=0.15)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--halving", action="store_true", help="rungs and pairs, one budget")
    parser.add_argument("--quick", action="store_true", help="one budget; the README stays")
    options = parser.parse_args()
    source = f"data.sources=[{{kind: file, path: {options.text.resolve()}}}]"
    found: dict[str, Any] = {"budgets": []}
    try:
        if options.halving:
            settings = [source, *SETTINGS, *HALVING, f"prune.keep={options.keep}"]
            return halving(options, [*settings, *options.overrides])
        for speedup in SPEEDUPS[:1] if options.quick else SPEEDUPS:
            settings = [source, *SETTINGS, f"budgets.speedup={speedup}", *options.overrides]
            whole = load_config(options.config, settings)
            pruning = [*PRUNING, f"prune.keep={options.keep}"]
            pruned = load_config(options.config, [*settings, *pruning])
            row = compare(whole, pruned, options.output, speedup)
            print(row, flush=True)
            found["budgets"].append(row)
        found["proxies"] = proxies(whole, options.output)
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    (options.output / "pruning.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    table = "\n".join(lines(found))
    print(table)
    if not options.quick:
        install("pruning", table)
    return 0


def compare(whole: RunConfig, pruned: RunConfig, folder: Path, speedup: float) -> dict[str, Any]:
    """Both compilations at one budget. Budgets share each run; the time of one is that of all
    units that it rests on, as if it stood alone."""
    row: dict[str, Any] = {"speedup": speedup}
    kls: dict[str, dict[str, Floats]] = {}
    for name, config in (("whole", whole), ("pruned", pruned)):
        run = RunDirectory.create(folder / name)
        compile_run(config, run, Session().progress, stop="refine")
        view = Artefacts(PassContext(config, run))
        pruning = run.require("prune/survivors").data if name == "pruned" else {}
        trials, tried = pruning.get("trials", []), pruning.get("tried", [])
        trained = {*trials, *(c.id for c in view.candidates)}
        row[name] = {
            "trained": len(trained),
            "tried": len(tried),
            "seconds": _seconds(run, trained, tried, trials),
            "objective": view.solution.objective,
            "refine_seconds": run.require("refine").seconds,
        }
        kls[name] = {"sum": held_out(view, view.solution), "refined": held_out(view, view.refined)}
        row[name]["held_out_kl"] = {key: float(kl.mean()) for key, kl in kls[name].items()}
    row["ratio"] = {key: ratio(kls["pruned"][key], kls["whole"][key]) for key in kls["whole"]}
    return row


def ratio(above: Floats, below: Floats) -> list[float]:
    """Ratio of the means over the same sequences, and its 95 % interval (paired bootstrap)."""
    chosen = np.random.default_rng(0).integers(len(above), size=(2000, len(above)))
    drawn = above[chosen].mean(axis=1) / below[chosen].mean(axis=1)
    return [float(above.mean() / below.mean()), *np.quantile(drawn, (0.025, 0.975)).tolist()]


def halving(options: argparse.Namespace, settings: Sequence[str]) -> int:
    """Rungs and pairs at one budget, each on and off."""
    folder, rows = options.output, []
    first = load_config(options.config, [*settings, *RUNGS])
    compile_run(first, RunDirectory.create(folder / "rungs"), Session().progress, stop="prune")
    if not (folder / "through").exists():
        shutil.copytree(folder / "rungs", folder / "through")
    for name, more in (("through", ()), ("rungs", RUNGS)):
        for pairs in ((), PAIRS):
            config = load_config(options.config, [*settings, *more, *pairs])
            run = RunDirectory.create(folder / name)
            compile_run(config, run, Session().progress, stop="assemble")
            rows.append({"training": name, "pairs": bool(pairs), **_halved(config, run)})
            print(rows[-1], flush=True)
    (folder / "halving.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


def _halved(config: RunConfig, run: RunDirectory) -> dict[str, Any]:
    """What was trained and stopped, what it took, and held-out KL as assembled and before."""
    view = Artefacts(PassContext(config, run))
    records = [run.require(f"build/{c.id}") for c in view.candidates]
    stops = [r.data["stopped"] for r in records if r.data.get("stopped")]
    assembling = run.require("assemble/student")
    student = assembled(view.context, "student", view.architectures["student"])
    teacher = scoring_copy(view.context.teacher.chain)
    ids = view.context.text.evaluate[:WINDOWS].split(4)
    divergence = view.context.objective(teacher).divergence(_last_hidden(teacher, ids))
    outlook = next(iter(run.require("prune/survivors").data.get("outlooks", {}).values()), {})
    return {
        "survivors": len(records),
        "stopped": len(stops),
        "training_saved": sum(1 - s["step"] / s["of"] for s in stops) / len(records),
        "build_s": sum(record.seconds for record in records),
        "prune_factor": outlook.get("factor"),
        "lines": outlook.get("lines"),
        "objective": view.solution.objective,
        "library_kl": float(held_out(view, view.solution).mean()),
        "assembled_kl": float(divergence(_last_hidden(scoring_copy(student), ids)).mean()),
        "scoring_text": {k: v for k, v in assembling.data.items() if k != "coupled"},
        "coupled": {
            **{k: v for k, v in assembling.data.get("coupled", {}).items() if k != "layers"},
            "pairs": len(layers := assembling.data.get("coupled", {}).get("layers", [])),
            "pairs_kept": sum(layer["together"] < layer["apart"] for layer in layers),
        },
        "assemble_s": assembling.seconds,
    }


def _seconds(
    run: RunDirectory, trained: set[str], tried: Sequence[str], trials: Sequence[str]
) -> float:
    """Time of the units of pruning, building and scoring that stand in the run, and what the first
    call took beside its units: the walks over the teacher."""
    slots = {name.rpartition("/")[0] for name in trained}
    units = [
        *(f"build/{name}" for name in trained),
        *(f"score/{slot}" for slot in slots),
        *(f"prune/draft/{path.parent.name}/{path.stem}" for path in run.path("drafts").glob("*/*")),
        *(f"swap/draft/{name}" for name in tried),
        *(f"swap/block/{name}" for name in trials),
        "prune/one-backward",
    ]
    spent = sum(record.seconds for name in units if (record := run.record(name)))
    return spent + _first_overhead(run)


def _first_overhead(run: RunDirectory) -> float:
    """Seconds of the first call's passes beyond those of their units."""
    wall = units = 0.0
    for event in run.events():
        if event["event"] == "unit" and event["unit"].split("/")[0] in (*PASSES, "swap"):
            if event["unit"] != "prune/survivors":  # its time holds that of the others
                units += event["seconds"]
        elif event["event"] == "pass" and event["name"] in PASSES:
            wall += event["seconds"]
        if event["event"] == "pass" and event["name"] == "score":
            break
    return max(0.0, wall - units)


def held_out(view: Artefacts, solution: Solution) -> Floats:
    """KL of a student, its blocks as the library has them, on each held-out sequence."""
    architecture = architecture_of(view.context.shape, view.candidates, solution)
    ids = view.context.text.evaluate[:WINDOWS]
    return np.asarray(Realiser(library_network(view.context), ids)(architecture), dtype=float)


def proxies(whole: RunConfig, folder: Path) -> list[dict[str, Any]]:
    """Spearman of each proxy with trained local error and replace-one KL, over all candidates and
    within slots."""
    view = Artefacts(PassContext(whole, RunDirectory.open(folder / "whole")))
    listing = json.loads((folder / "pruned" / "prune.json").read_text())
    seen = {row["candidate"]: row for row in listing["candidates"]}
    shape, run = view.context.shape, view.context.run
    columns: dict[str, list[float]] = {}
    for candidate in view.candidates:
        spec = shape.resolve(candidate.slot, candidate.spec)
        meta = run.require(f"build/{candidate.id}").data
        kind = KINDS[spec.kind]
        figures = {
            "params": -kind.parameters(shape, candidate.slot.kind, spec),
            "flops": -kind.flops(shape, candidate.slot.kind, spec, 512, 256),
            "slice_error": meta["sliced_error"],
            "closed_form_error": seen[candidate.id]["local_error"],
            "one_backward": seen[candidate.id]["one_backward_nats"],
            "trained_error": meta["initial_error"]
            if meta["trained_error"] is None
            else min(meta["initial_error"], meta["trained_error"]),
            "replace_one": float(view.scores[candidate.id].mean()),
        }
        for name, value in figures.items():
            columns.setdefault(name, []).append(float(value))
    slots = np.array([c.slot.id for c in view.candidates])
    return [
        {
            "proxy": name,
            **{
                target: [
                    spearman(np.array(columns[name]), np.array(columns[target])),
                    within(np.array(columns[name]), np.array(columns[target]), slots),
                ]
                for target in ("trained_error", "replace_one")
            },
        }
        for name in ("params", "flops", "slice_error", "closed_form_error", "one_backward")
    ]


def within(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """Mean over the groups of Spearman's rank correlation."""
    return float(np.mean([spearman(x[groups == g], y[groups == g]) for g in np.unique(groups)]))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=float)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The tables of the README."""
    yield (
        "| budget | drafts run | candidates trained | build and score | held-out KL by the sum: "
        "whole | pruned | ratio | refined: whole | pruned | ratio |\n" + "|---" * 10 + "|"
    )
    for row in found["budgets"]:
        yield _budget_line(row)
    yield "\n| proxy | trained local error | within slots | replace-one KL | within slots |"
    yield "|---|---|---|---|---|"
    for row in found["proxies"]:
        cells: Sequence[float] = [*row["trained_error"], *row["replace_one"]]
        yield f"| {row['proxy']} | " + " | ".join(f"{value:.3f}" for value in cells) + " |"


def _budget_line(row: Mapping[str, Any]) -> str:
    whole, pruned = row["whole"], row["pruned"]
    line = (
        f"| {row['speedup']}x | {pruned['tried']} | {pruned['trained']} of {whole['trained']} "
        f"({pruned['trained'] / whole['trained']:.0%}) "
        f"| {pruned['seconds']:.0f} of {whole['seconds']:.0f} s "
        f"({pruned['seconds'] / whole['seconds']:.0%}) |"
    )
    for key, (middle, low, high) in row["ratio"].items():
        kls = (whole["held_out_kl"][key], pruned["held_out_kl"][key])
        line += f" {kls[0]:.4f} | {kls[1]:.4f} | {middle:.3f} [{low:.3f}, {high:.3f}] |"
    return line


if __name__ == "__main__":
    sys.exit(main())
