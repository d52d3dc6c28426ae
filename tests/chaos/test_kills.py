"""A run that is killed at random and resumed ends as one that was left alone.

The 200 kills of the benchmark are `make bench-chaos`; here are some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

ROOT = Path(__file__).parents[2]
KILLS = 4


def test_kills_leave_no_trace(tmp_path: Path) -> None:
    arguments = [
        "--kills",
        str(KILLS),
        "--most",
        str(KILLS // 2),
        "--folder",
        str(tmp_path / "runs"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.harness", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] >= KILLS
    assert found["runs"] >= 2  # in process, then with a worker
    assert found["differing"] == []
    assert found["done_twice"] == []
    assert found["left_behind"] == []
