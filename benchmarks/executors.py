"""Is building faster with two workers than with one, one thread each, and are the bytes the same?

    python benchmarks/executors.py [--kinds process ray] [--set KEY=VALUE ...]

The library of SmolLM2-135M is built with the settings of `examples/smollm2-demo.yaml`, in process
and by one and two workers of each kind. Starting the workers counts, starting Ray does not: a
cluster is there before the work. Exits with 1 where two are not 1.6 times as fast as one, or where
a block differs in a byte.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from nas.compiler import compile_run
from nas.config import RunConfig, load_config
from nas.executors import Executor, InProcess, ProcessPool, RayCluster
from nas.run import RunDirectory, file_digest

_CONFIG = Path(__file__).parents[1] / "examples" / "smollm2-demo.yaml"
_SETTINGS = ["target.hardware=rtx4090", "target.meter=roofline", "build.tokens=4096"]
_GOAL = 1.6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--kinds", nargs="+", choices=["process", "ray"], default=["process", "ray"]
    )
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(_CONFIG, [*_SETTINGS, *given.overrides])
    good = True
    with tempfile.TemporaryDirectory(prefix="nas-executors-") as folder:
        alone_s, expected = _built(config, Path(folder) / "alone", InProcess())
        print(f"in process: {alone_s:.1f} s, one thread", flush=True)
        for kind in given.kinds:
            seconds = {}
            for workers in (1, 2):
                root = Path(folder) / f"{kind}-{workers}"
                seconds[workers], found = _built(config, root, _executor(kind, workers))
                same = found == expected
                good &= same
                print(f"{kind}:{workers}: {seconds[workers]:.1f} s, same bytes: {same}", flush=True)
            ratio = seconds[1] / seconds[2]
            good &= ratio >= _GOAL
            print(
                f"{kind}: two workers are {ratio:.2f} times as fast as one (goal: {_GOAL}), "
                f"{alone_s / seconds[2]:.2f} times as fast as in process",
                flush=True,
            )
    return 0 if good else 1


def _executor(kind: str, workers: int) -> Executor:
    if kind == "process":
        return ProcessPool(workers, threads=1)
    cluster = RayCluster(workers, threads=1)
    cluster.connect()
    return cluster


def _built(config: RunConfig, root: Path, executor: Executor) -> tuple[float, dict[str, str]]:
    """Seconds of the pass build, and a digest of each block."""
    run = RunDirectory.create(root)
    compile_run(config, run, stop="prune")
    outcome = compile_run(config, run, stop="build", executor=executor)
    blocks = sorted(root.glob("library/*/*/block.safetensors"))
    return outcome.seconds["build"], {str(b.relative_to(root)): file_digest(b) for b in blocks}


if __name__ == "__main__":
    sys.exit(main())
