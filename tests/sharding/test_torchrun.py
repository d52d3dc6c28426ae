"""Two processes under torchrun, connected by Gloo, learn what one does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import ConfigError
from nas.run import RunDirectory

ROOT = Path(__file__).parents[2]
STEPS = 12
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def assembled(
    small_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run with a student and a baseline that are to be distilled."""
    root = tmp_path_factory.mktemp("sharding") / "run"
    distill = {"steps": STEPS, "batch_tokens": 120, "micro_batch_tokens": 72}
    config = small_config(
        distill=distill, budgets={"params_m": 0.026}, baselines=["depth_cut_within"]
    )
    compile_run(config, RunDirectory.create(root), stop="assemble")
    return root


def _copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def _command(run: Path, processes: int, *settings: str) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "nas", "distill"]
    return [*command, str(run), *(word for s in settings for word in ("--set", s))]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NAS_DEBUG": "1"}


def _distil(run: Path, processes: int, *settings: str) -> dict[str, Any]:
    """The curves of every network after distilling the run."""
    done = subprocess.run(
        _command(run, processes, *settings),
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return _curves(run)


def _curves(run: Path) -> dict[str, Any]:
    records = (json.loads(p.read_text()) for p in sorted(run.glob("units/distill/*.json")))
    return {record["name"]: record["data"] for record in records}


def _assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        for term in ("kl", "cosine"):
            assert len(found[name][term]) == STEPS
            assert found[name][term] == pytest.approx(expected[name][term], abs=tolerance, rel=0)


def test_two_processes_have_the_curve_of_one(assembled: Path, tmp_path: Path) -> None:
    alone, both = _copy(assembled, tmp_path / "alone"), _copy(assembled, tmp_path / "both")
    # Five sequences in pieces of three: the second process has two, and they are cut elsewhere.
    expected, found = _distil(alone, 1), _distil(both, 2)
    assert len(expected) >= 2, "a student and a baseline in lockstep"
    assert expected["distill/student"]["kl"][-1] != expected["distill/student"]["kl"][0]
    _assert_close(found, expected, TOLERANCE)
    for path in sorted(alone.glob("students/*/weights.safetensors")):
        mine, theirs = load_file(both / path.relative_to(alone)), load_file(path)
        assert mine.keys() == theirs.keys()
        for name in theirs:
            torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=2e-3)
    assert not list(both.glob("checkpoints/*"))
    done = [e for e in RunDirectory(both).events() if e["event"] == "unit"]
    assert len(done) == len({e["unit"] for e in done}), "one process wrote"


def test_processes_with_a_piece_each_learn_the_same_to_the_bit(
    assembled: Path, tmp_path: Path
) -> None:
    settings = ("distill.batch_tokens=96", "distill.micro_batch_tokens=48")
    alone, both = _copy(assembled, tmp_path / "alone"), _copy(assembled, tmp_path / "both")
    _assert_close(_distil(both, 2, *settings), _distil(alone, 1, *settings), 0)
    for path in sorted(alone.glob("students/*/weights.safetensors")):
        assert (both / path.relative_to(alone)).read_bytes() == path.read_bytes()


def test_embeddings_are_sharded_where_they_are_trained(assembled: Path, tmp_path: Path) -> None:
    setting = "distill.train_embeddings=true"
    expected = _distil(_copy(assembled, tmp_path / "alone"), 1, setting)
    found = _distil(_copy(assembled, tmp_path / "both"), 2, setting)
    _assert_close(found, expected, TOLERANCE)


def test_a_numbered_gpu_for_all_processes_is_refused() -> None:
    from nas.sharding._torchrun import TorchrunRanks

    ranks = TorchrunRanks(rank=0, size=2, local=0, address="127.0.0.1", port=0, attempt="0")
    with pytest.raises(ConfigError, match=r"teacher\.device: cuda:1 .* write cuda"):
        ranks._connect("cuda:1")


def test_a_killed_distillation_goes_on(assembled: Path, tmp_path: Path) -> None:
    expected = _distil(_copy(assembled, tmp_path / "undisturbed"), 2)
    killed = _copy(assembled, tmp_path / "killed")
    _kill_after_a_checkpoint(killed)
    assert not _curves(killed)
    alone = _copy(killed, tmp_path / "alone")
    _assert_close(_distil(killed, 2), expected, 0)
    _assert_close(_distil(alone, 1), expected, TOLERANCE)
    for run in (killed, alone):
        assert not [e for e in RunDirectory(run).events() if e["event"] == "damaged"]


def _kill_after_a_checkpoint(run: Path) -> None:
    """End torchrun and its processes by SIGKILL while they distil."""
    process = subprocess.Popen(_command(run, 2), env=_environment(), stderr=subprocess.DEVNULL)
    index, patience = run / "checkpoints" / "distill" / "checkpoint.json", time.monotonic() + 120
    while not index.exists():
        assert process.poll() is None, "torchrun ended before its first checkpoint"
        assert time.monotonic() < patience
        time.sleep(0.002)
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    for number in [*map(int, listed.split()), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()
