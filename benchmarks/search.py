"""`nas search` on all 15,625 cells of NAS-Bench-201, judged by their published accuracies.

    python benchmarks/search.py --data DIR                        evolution, 400 cells a limit
    python benchmarks/search.py --data DIR --strategy exhaustive  every cell within each limit

Regret is the accuracy of the best cell within the limit less that of the cell that was found. The
accuracies are read for it alone. Values go to a journal under --output, which all limits share: the
same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nas.networks import Cell
from nas.search import SearchAnswer, SearchRequest, search
from search_spaces import load_student_space

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIMITS_M, TRIALS = (0.3, 0.6, 1.0), 400
CHOSEN = ("params", "jacov", "synflow", "expressivity", "progressivity")
"""What `make bench-proxies` chose by CIFAR-10 accuracies of other cells."""
SETS = ("cifar10", "cifar100")


@dataclass(frozen=True)
class Row:
    architecture: str
    isomorphism_class: str
    accuracy: dict[str, float]
    params_m: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public data")
    parser.add_argument("--output", type=Path, default=Path("runs/search-benchmark"))
    parser.add_argument("--proxy", action="append", help=f"default: {', '.join(CHOSEN)}")
    parser.add_argument("--combine", default="log_ranks")
    parser.add_argument("--strategy", default="evolution")
    parser.add_argument("--trials", type=int, help="default: 400, or every cell")
    parser.add_argument("--inits", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = read_rows(arguments.data / "nasbench201" / "test_accuracy.csv")
    check_classes(rows)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for limit in LIMITS_M:
        answer = search(
            SearchRequest(
                "nasbench201",
                proxies=tuple(arguments.proxy or CHOSEN),
                combine=arguments.combine,
                data=existing(arguments.data / "cifar10" / "train.npz"),
                limits=(f"params_m={limit}",),
                strategy=arguments.strategy,
                trials=arguments.trials or (None if arguments.strategy == "exhaustive" else TRIALS),
                journal=arguments.output / f"nasbench201-{arguments.inits}-{arguments.seed}.jsonl",
                inits=arguments.inits,
                batch=arguments.batch,
                seed=arguments.seed,
            )
        )
        report(answer, rows, limit)


def read_rows(path: Path) -> list[Row]:
    """Every cell with its accuracies and exact parameters."""
    space = load_student_space("nasbench201")
    params = {}
    for choice in space.choices():
        spec = space.spec(choice)
        params[spec.key] = spec.size().params / 1e6
    with existing(path).open(newline="", encoding="utf-8") as file:
        return [
            Row(
                row["architecture"],
                row["isomorphism_class"],
                {name: float(row[name]) for name in SETS},
                params[row["architecture"]],
            )
            for row in csv.DictReader(file)
        ]


def check_classes(rows: list[Row]) -> None:
    """Every class of the table must lie within one of ours, which are fewer."""
    ours: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        ours[row.isomorphism_class].add(Cell.parse(row.architecture).isomorphism_class)
    split = [name for name, found in ours.items() if len(found) > 1]
    if split:
        sys.exit(f"{len(split)} classes of the table are split by ours, such as {split[0]}")
    merged = len({name for found in ours.values() for name in found})
    print(f"{len(rows)} cells, {len(ours)} classes in the table, all within {merged} of ours")


def report(answer: SearchAnswer, rows: list[Row], limit: float) -> None:
    """The winner's regret beside that of the largest cell and of a random one."""
    within = [row for row in rows if row.params_m <= limit]
    winner = next(r for r in within if r.architecture == answer.ranked[0].architecture)
    largest = max(within, key=lambda row: (row.params_m, row.architecture))
    print(f"params_m <= {limit}: {len(within)} cells, {answer.scored} scored, {answer.strategy}")
    print(f"  {winner.architecture}, {winner.params_m:.3f} M, {answer.seconds:.0f} s")
    for name in SETS:
        best = max(row.accuracy[name] for row in within)
        typical = best - statistics.mean(row.accuracy[name] for row in within)
        print(
            f"  {name}: regret {best - winner.accuracy[name]:.2f} points; "
            f"of the largest {best - largest.accuracy[name]:.2f}, of a random one {typical:.2f}"
        )


def existing(path: Path) -> Path:
    if not path.is_file():
        sys.exit(f"{path} is missing; this benchmark needs it, see the README of the data")
    return path


if __name__ == "__main__":
    main()
