"""Kill a run at random, resume it, and kill it again: does it end as if nothing had happened?

    python benchmarks/chaos.py [--kills 200] [--seed 0] [--executor in-process process:1]

A small model goes through every pass while its process is killed by SIGKILL, half of the times
after a random time, half at a random one of its writes, and is resumed until it is finished; then
comes the next run, with the next executor; where it has workers, they are killed too. Every run is
compared with one that was left alone: each file by its bytes, JSON without what tells of time.
Exits with 1 where a file differs, a finished unit was done twice, or something was left behind.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nas.compiler import PASSES
from tests.chaos.harness import main


def report() -> int:
    found = main()
    minutes = found.seconds / 60
    print(f"{found.kills} kills of {found.runs} runs, {found.attempts} attempts, {minutes:.1f} min")
    print(f"{found.workers} of the kills hit a worker, the others the process that owns the run")
    print(f"an undisturbed run takes {found.undisturbed_seconds:.1f} s")
    executors = list(found.by_executor)
    print("| pass | " + " | ".join(executors) + " |")
    print("|---" * (1 + len(executors)) + "|")
    for step in PASSES:
        kills = (str(found.by_executor[name][step.name]) for name in executors)
        print(f"| {step.name} | " + " | ".join(kills) + " |")
    wrong = 0
    for what, files in (
        ("files that differ from those of an undisturbed run", found.differing),
        ("finished units that were done again", found.done_twice),
        ("files left behind", found.left_behind),
    ):
        print(f"{what}: {len(files)}")
        for file in files[:20]:
            print(f"  {file}")
        wrong += len(files)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(report())
