"""Do two processes under torchrun distil as one does, and do they go on after a kill?

    python benchmarks/sharding.py [--processes 2] [--steps 8] [--set KEY=VALUE ...]

A student of SmolLM2-135M is assembled once and distilled from copies of its run: by one process, by
several that FSDP2 shards it over (one thread each), and by as many that are ended by SIGKILL after
their first checkpoint and started again. Exits with 1 where a loss of the first two differs by more
than 1e-4, or one of the last two at all.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nas.compiler import compile_run
from nas.config import load_config
from nas.console import Session
from nas.run import RunDirectory

_ROOT = Path(__file__).resolve().parents[1]
_SETTINGS = (
    *("target.hardware=rtx4090", "target.meter=roofline", "build.tokens=1024", "build.epochs=1"),
    *("score.draws=1", "data.score_sequences=2", "refine.rounds=0", "assemble.refit_tokens=0"),
    "baselines=[]",
    *("distill.batch_tokens=2048", "distill.micro_batch_tokens=1024", "distill.checkpoint_every=2"),
)
_SPACE = "attention: {linear: true}\nffn: {linear: true, skip: true}\n"  # soon built
_GOAL = 1e-4
Curve = dict[str, list[float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-sharding-") as name:
        folder = Path(name)
        (folder / "space.yaml").write_text(_SPACE, encoding="utf-8")
        steps, space = f"distill.steps={given.steps}", f"space={folder / 'space.yaml'}"
        settings = [*_SETTINGS, steps, space, *given.overrides]
        config = load_config(_ROOT / "examples" / "smollm2-demo.yaml", settings)
        compile_run(
            config, RunDirectory.create(folder / "run"), Session().progress, stop="assemble"
        )
        alone = _distilled(folder, "alone", 1)
        both = _distilled(folder, "both", given.processes)
        resumed = _distilled(folder, "resumed", given.processes, kill=True)
    for step in range(given.steps):
        figures = (f"{c['kl'][step]:.6f} {c['cosine'][step]:.6f}" for c in (alone, both, resumed))
        print(f"step {step + 1:>3}  KL and cosine  " + "  |  ".join(figures))
    gap, broken = _gap(alone, both), _gap(both, resumed)
    print(
        f"{given.processes} processes and one: losses differ by at most {gap:.1e} (goal: {_GOAL})"
    )
    print(f"after a kill: by {broken:.1e} (goal: 0)")
    return 0 if gap <= _GOAL and broken == 0 else 1


def _distilled(folder: Path, name: str, processes: int, *, kill: bool = False) -> Curve:
    run = folder / name
    shutil.copytree(folder / "run", run)
    if kill:
        _killed(run, processes)
    started = time.perf_counter()
    subprocess.run(_command(run, processes), env=_environment(), check=True)
    seconds = time.perf_counter() - started
    curve: Curve = json.loads((run / "units" / "distill" / "student.json").read_text())["data"]
    peak = [e["peak_memory_mib"] for e in RunDirectory(run).events() if e["event"] == "pass"][-1]
    print(f"{name}: {seconds:.1f} s, peak {peak:.0f} MiB of the first process", flush=True)
    return curve


def _killed(run: Path, processes: int) -> None:
    process = subprocess.Popen(
        _command(run, processes), env=_environment(), stderr=subprocess.DEVNULL
    )
    index = run / "checkpoints" / "distill" / "checkpoint.json"
    while not index.exists():
        if process.poll() is not None:
            raise SystemExit("torchrun ended before its first checkpoint")
        time.sleep(0.01)
    step = json.loads(index.read_text())["step"]
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    for number in [*map(int, listed.split()), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()
    print(f"killed after step {step} was kept", flush=True)


def _command(run: Path, processes: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "nas", "distill", str(run)]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(_ROOT)}


def _gap(a: Curve, b: Curve) -> float:
    return max(
        abs(x - y) for term in ("kl", "cosine") for x, y in zip(a[term], b[term], strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
