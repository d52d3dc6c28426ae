"""Training-free proxies on two spaces with published accuracies.

    python benchmarks/proxies.py --data DIR              both spaces
    python benchmarks/proxies.py s0 --data DIR           DisWOT's S0: 64 CIFAR ResNets
    python benchmarks/proxies.py nasbench201 --data DIR  random cells, one an isomorphism class
    python benchmarks/proxies.py report --data DIR       the tables, from what is scored so far

Every score goes to a log under --output as it is made: the same command goes on where it stopped.
Scores are of untrained networks; accuracies are read for the tables only, and combinations are
chosen on the CIFAR-10 accuracies of one half of the NAS-Bench-201 classes alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nas.networks import Cell, CifarResNetSpec, NasBench201Spec, load_image_teacher
from nas.progress import Progress
from nas.proxies import (
    Accuracies,
    Batch,
    Combination,
    Proxy,
    ScoreLog,
    ScoreTable,
    Sitting,
    TeacherView,
    Verdict,
    choose,
    create_proxy,
    judge,
    list_proxies,
    score_networks,
    split_groups,
    verdict_rows,
    with_controls,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OF_PICTURES = [name for name in list_proxies() if not name.startswith("autodistil")]
CONTROLLED = ("diswot_semantic", "diswot_relation", "teacher_cka", "nwot")
"""The proxies that the controls are run for on S0."""
PUBLISHED = ("diswot", "diswot_semantic", "diswot_relation")
"""Run as their paper has it, too: 128 pictures, an untrained teacher."""
PUBLISHED_S0 = {"DisWOT, published ranking": (0.710, 0.893)}
# Chosen before any score of S0 was compared with its accuracies. Parameters there are nearly the
# depth of the last stage alone; depth counts the stages alike.
DECLARED = (
    *("params+depth", "log_ranks:params+depth", "params+depth+nwot", "params+expressivity"),
    "params+nwot+jacov",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=["all", "s0", "nasbench201", "report"], nargs="?")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public data")
    parser.add_argument("--output", type=Path, default=Path("runs/proxies-benchmark"))
    parser.add_argument("--batch", type=int, default=64, help="pictures a batch on S0")
    parser.add_argument("--inits", type=int, default=1, help="inits and batches a network")
    parser.add_argument("--cells", type=int, default=1000, help="cells of NAS-Bench-201")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch decides")
    parser.add_argument("--resamples", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if not arguments.data.is_dir():
        sys.exit(f"{arguments.data}: no such folder; --data names the one with cifar10/, ...")
    part = arguments.part or "all"
    if part in ("all", "s0"):
        score_s0(arguments)
    if part in ("all", "nasbench201"):
        score_cells(arguments)
    report(arguments)


def pictures(data: Path, count: int, seed: int) -> Batch:
    """Random training pictures of CIFAR-10, normalised as the teacher was trained."""
    with np.load(existing(data / "cifar10" / "train.npz")) as held:
        rows = np.random.default_rng(seed).permutation(len(held["labels"]))[:count]
        images, labels = held["images"][rows], held["labels"][rows]
    scaled = (images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    inputs = torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()
    return Batch(inputs, torch.from_numpy(labels))


def existing(path: Path) -> Path:
    if not path.is_file():
        sys.exit(f"{path} is missing; this benchmark needs it, see the README of the data")
    return path


def trained_teacher(data: Path) -> nn.Module:
    return load_image_teacher(str(existing(data / "cifar10" / "resnet56.safetensors")))


def untrained_teacher() -> nn.Module:
    """ResNet-56 with weights from N(0, 1): the teacher of DisWOT's paper."""
    network = CifarResNetSpec((9, 9, 9)).build(seed=56)
    generator = torch.Generator().manual_seed(56)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(generator=generator)
    return network


# --- S0 ---------------------------------------------------------------------------------------


def score_s0(arguments: argparse.Namespace) -> None:
    teacher, other = trained_teacher(arguments.data), untrained_teacher()
    batches = [pictures(arguments.data, arguments.batch, seed) for seed in range(arguments.inits)]
    sittings = [Sitting(b, TeacherView(teacher, b), i) for i, b in enumerate(batches)]
    proxies = [create_proxy(name) for name in OF_PICTURES]
    settings = with_controls(sittings, lambda b: TeacherView(other, b, trained=False))
    log = s0_log(arguments)
    builders = {name: s0_spec(name).build for name in s0_accuracies(arguments.data)}
    score_networks(builders, proxies, {"": settings.pop("")}, log, Lines())
    controlled = [create_proxy(name) for name in CONTROLLED]
    score_networks(builders, controlled, settings, log, Lines())
    batch = pictures(arguments.data, 128, 0)
    paper = Sitting(batch, TeacherView(other, batch, trained=False), seed=0)
    published = [create_proxy(name) for name in PUBLISHED]
    score_networks(builders, published, {"as published": (paper,)}, log, Lines())


def s0_log(arguments: argparse.Namespace) -> ScoreLog:
    conditions = {
        "space": "s0",
        "batch": arguments.batch,
        "inits": arguments.inits,
        "teacher": "trained ResNet-56, CIFAR-10",
        "other teacher": "untrained ResNet-56, N(0, 1)",
    }
    return ScoreLog(arguments.output / "s0.jsonl", conditions)


def s0_spec(name: str) -> CifarResNetSpec:
    first, second, third = map(int, name)
    return CifarResNetSpec((first, second, third))


def s0_accuracies(data: Path) -> dict[str, float]:
    lines = existing(data / "diswot_s0" / "s1-gt-kd.txt").read_text().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.strip()}


def s0_known(data: Path) -> Accuracies:
    found = s0_accuracies(data)
    sizes = {name: s0_spec(name).size() for name in found}
    return Accuracies(
        tuple(found),
        tuple(found.values()),
        None,
        {
            "params": tuple(float(sizes[name].params) for name in found),
            "flops": tuple(float(sizes[name].flops) for name in found),
        },
        "S0, CIFAR-100 with distillation",
    )


# --- NAS-Bench-201 ----------------------------------------------------------------------------

CELLS_A_STAGE, CELL_BATCH, POOLED = 5, 32, 2
"""A cell is judged at full depth and width, on pictures of half the side: what depth does to the
features shows in their spectra, and the smaller side pays for the depth."""


def score_cells(arguments: argparse.Namespace) -> None:
    teacher = trained_teacher(arguments.data)
    sittings = []
    for seed in range(arguments.inits):
        batch = pictures(arguments.data, CELL_BATCH, seed)
        if POOLED > 1:
            batch = replace(batch, inputs=avg_pool2d(batch.inputs, POOLED))
        sittings.append(Sitting(batch, TeacherView(teacher, batch), seed))
    chosen = cells(arguments.data)[: arguments.cells]
    builders = {
        row["architecture"]: NasBench201Spec(
            Cell.parse(row["architecture"]), cells=CELLS_A_STAGE, image_size=32 // POOLED
        ).build
        for row in chosen
    }
    proxies = [create_proxy(name) for name in OF_PICTURES]
    score_networks(builders, proxies, {"": tuple(sittings)}, cells_log(arguments), Lines())


def cells_log(arguments: argparse.Namespace) -> ScoreLog:
    conditions = {
        "space": "nasbench201",
        "cells a stage": CELLS_A_STAGE,
        "batch": CELL_BATCH,
        "side": 32 // POOLED,
        "inits": arguments.inits,
        "teacher": "trained ResNet-56, CIFAR-10",
    }
    return ScoreLog(arguments.output / "nasbench201.jsonl", conditions)


def cells(data: Path) -> list[dict[str, str]]:
    """All cells in a random order that never changes, without those that compute the same as an
    earlier one (`Cell.isomorphism_class`).

    A class of many cells thus comes early, as it would among random cells.
    """
    with existing(data / "nasbench201" / "test_accuracy.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    random.Random(0).shuffle(rows)
    first: dict[str, dict[str, str]] = {}
    for row in rows:
        row["isomorphism_class"] = Cell.parse(row["architecture"]).isomorphism_class
        first.setdefault(row["isomorphism_class"], row)
    return list(first.values())


def cells_known(data: Path, count: int, table: ScoreTable, accuracy: str) -> Accuracies:
    rows = {row["architecture"]: row for row in cells(data)[:count]}
    done = complete(table, [name for name in rows if name in table.rows])
    specs = {name: NasBench201Spec(Cell.parse(name)).size() for name in done}
    return Accuracies(
        tuple(done),
        tuple(float(rows[name][accuracy]) for name in done),
        tuple(rows[name]["isomorphism_class"] for name in done),
        {
            "params": tuple(float(specs[name].params) for name in done),
            "flops": tuple(float(specs[name].flops) for name in done),
        },
        f"NAS-Bench-201, {accuracy}",
    )


def complete(table: ScoreTable, names: Sequence[str]) -> list[str]:
    """Networks that have every column, so that an interrupted run compares like with like."""
    return [name for name in names if set(table.proxies) <= set(table.rows[name])]


# --- Combinations and tables ------------------------------------------------------------------


def label_free(names: Sequence[str]) -> list[str]:
    """Proxies as given (no controls) that look at no labels and at no teacher."""
    kinds: dict[str, Proxy] = {name: create_proxy(name) for name in OF_PICTURES}
    return [n for n in names if n in kinds and not kinds[n].needs & {"labels", "teacher"}]


def columns_for(table: ScoreTable, known: Accuracies) -> dict[str, list[float]]:
    return {name: table.column(name, known.architectures) for name in table.proxies}


def report(arguments: argparse.Namespace) -> None:
    found: dict[str, Any] = {}
    chosen: Combination | None = None
    if (arguments.output / "nasbench201.jsonl").exists():
        chosen = report_cells(arguments, found)
    if (arguments.output / "s0.jsonl").exists():
        report_s0(arguments, chosen, found)
    path = arguments.output / "report.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"written to {path}", file=sys.stderr)


def report_cells(arguments: argparse.Namespace, found: dict[str, Any]) -> Combination | None:
    table = cells_log(arguments).table
    known = {
        name: cells_known(arguments.data, arguments.cells, table, name)
        for name in ("cifar10", "cifar100")
    }
    groups = known["cifar10"].groups or ()
    if len(groups) < 20:
        return None
    held = split_groups(groups, 0.5)
    chosen = choose_on(table, known["cifar10"], np.flatnonzero(~held))
    found["chosen on half of the classes, CIFAR-10"] = str(chosen)
    for name, accuracies in known.items():
        judged = accuracies.only([int(i) for i in np.flatnonzero(held)])
        columns = columns_for(table, judged)
        # Ranks of a combination are among the networks that are judged.
        extra = [chosen, *map(Combination.parse, DECLARED)]
        columns |= {str(c): c.combine(columns) for c in extra}
        verdict = judge(
            judged, columns, seconds=seconds(table), top=(1, 10), resamples=arguments.resamples
        )
        found[f"nasbench201 {name}"] = verdict.model_dump()
        print_table(verdict, {})
    return chosen


def choose_on(table: ScoreTable, known: Accuracies, rows: Sequence[int]) -> Combination:
    """The label-free combination with the highest Spearman on these rows."""
    part = known.only([int(i) for i in rows])
    columns = columns_for(table, part)
    names = [name for name in label_free(list(columns)) if name != "pixel_gram"]
    return choose(part, columns, names)


def report_s0(
    arguments: argparse.Namespace, chosen: Combination | None, found: dict[str, Any]
) -> None:
    table, known = s0_log(arguments).table, s0_known(arguments.data)
    columns = columns_for(table, known)
    extra = [*([chosen] if chosen else []), *map(Combination.parse, DECLARED)]
    for combination in extra:
        if set(combination.names) <= set(columns):
            columns[str(combination)] = combination.combine(columns)
    verdict = judge(
        known, columns, seconds=seconds(table), top=(1, 5), resamples=arguments.resamples
    )
    found["s0"] = verdict.model_dump()
    print_table(verdict, PUBLISHED_S0)


def seconds(table: ScoreTable) -> dict[str, float]:
    return {name: table.seconds(name) for name in table.proxies}


def print_table(verdict: Verdict, published: Mapping[str, tuple[float, float]]) -> None:
    heads, rows = verdict_rows(verdict)
    print(f"\n### {verdict.table}: {verdict.networks} networks\n")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, (tau, rho) in published.items():
        print(f"| {name} | {tau:.3f} | {rho:.3f} |{' |' * (len(heads) - 3)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(
        f"\nHeld size: {verdict.size}; {verdict.matched_pairs} pairs within "
        f"{100 * verdict.within:g} % of it; brackets: 95 % bootstrap."
    )


class Lines(Progress):
    """A line for every fortieth network, to stderr."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def task(self, title: str, total: int) -> Any:
        return _Counter(self, title, total)


class _Counter:
    def __init__(self, lines: Lines, title: str, total: int) -> None:
        self._lines, self._title, self._total, self._done = lines, title, total, 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, steps: int) -> None:
        self._done += steps
        if self._done % 40 == 0 or self._done == self._total:
            self._lines.say(f"{self._title}: {self._done} of {self._total}")


if __name__ == "__main__":
    main()
