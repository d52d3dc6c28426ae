"""`nas measure` for a machine that is elsewhere: --pack and --calibrate."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nas.config import RunConfig
from nas.meters import load_calibration
from nas.meters.pack import Pack
from nas.passes import PassContext
from nas.passes.elsewhere import _requests
from nas.run import RunDirectory, write_atomically
from tests.cli.conftest import Nas
from tests.passes.conftest import small_config

__all__ = ["small_config"]
CONDITIONS = {
    "batch": 1,
    "dtype": "float16",
    "threads": 1,
    "runtime": "onnxruntime-cuda",
    "runtime_version": "1.30",
    "device": "a card",
}


@pytest.fixture
def run(small_config: Callable[..., RunConfig], tmp_path: Path) -> RunDirectory:
    """A run of few candidates whose target is a GPU, before its first pass."""
    made = RunDirectory.create(tmp_path / "r")
    space = tmp_path / "space.yaml"
    space.write_text("ffn: {width_percent: [50], linear: true}\n")
    config = small_config(target={"dtype": "float16"}, space=str(space))
    text = yaml.safe_dump(config.model_dump(mode="json"))
    write_atomically(made.path("config.resolved.yaml"), text)
    return made


def table(path: Path, run: RunDirectory, prompt: int, **other: object) -> Path:
    """Times of every block of the run: each kind of block has a pace of its own."""
    config = RunConfig.model_validate(yaml.safe_load(run.path("config.resolved.yaml").read_text()))
    rows = [
        {
            "block": request.key,
            "phase": request.phase,
            "latency_ms": 0.01 + 0.001 * len(request.key) * (prompt // 8),
            "prompt_tokens": prompt,
            **CONDITIONS,
            **other,
        }
        for request in _requests(PassContext(config, run))
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_calibrate_writes_what_the_roofline_reads(
    nas: Nas, run: RunDirectory, tmp_path: Path
) -> None:
    tables = [table(tmp_path / f"{prompt}.csv", run, prompt) for prompt in (16, 64)]
    given = [word for path in tables for word in ("--calibrate", path)]
    result = nas("measure", run.root, *given, "--output", "card.json", "-f", "json")

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(Path("card.json").read_text())
    assert "set target.meter=roofline and target.calibration=card.json" in result.stderr
    assert load_calibration(Path("card.json")).hardware == "rtx4090"
    nas("space", run.root)
    again = nas("measure", run.root, "--set", f"target.calibration={tmp_path / 'card.json'}")
    assert again.exit_code == 0, again.stderr
    costs = json.loads(run.path("costs", "costs.json").read_text())
    held = costs["entries"]["head"]["decode"]["conditions"]
    assert (held["device"], held["runtime_version"]) == (
        "a card",
        "calibrated on onnxruntime-cuda 1.30",
    )


def test_calibrate_shows_efficiencies_by_class(nas: Nas, run: RunDirectory, tmp_path: Path) -> None:
    result = nas("measure", run.root, "--calibrate", table(tmp_path / "t.csv", run, 16))

    assert result.exit_code == 0, result.stderr
    assert Path("rtx4090-calibration.json").is_file()
    assert result.stdout.startswith("rtx4090, float16: onnxruntime-cuda 1.30 on a card\n")
    for name in ("matmul", "attention", "elementwise", "embedding", "head"):
        assert f"\n{name} " in result.stdout
    assert "left out of the fit: median" in result.stdout


def test_calibrate_refuses_what_does_not_go_together(
    nas: Nas, run: RunDirectory, tmp_path: Path
) -> None:
    one = table(tmp_path / "one.csv", run, 16)
    two = table(tmp_path / "two.csv", run, 64, device="another card")
    result = nas("measure", run.root, "--calibrate", one, "--calibrate", two)

    assert result.exit_code == 2
    assert "device: 'a card' and 'another card'" in result.stderr
    Path("kept.json").write_text("kept")
    result = nas("measure", run.root, "--calibrate", one, "--output", "kept.json")
    assert result.exit_code == 2
    assert "kept.json exists already" in result.stderr
    assert Path("kept.json").read_text() == "kept"


def test_a_pack_leaves_the_run_as_it_is(nas: Nas, run: RunDirectory, tmp_path: Path) -> None:
    nas("space", run.root)
    before = run.path("space.json").read_bytes()
    # Widths are multiples of another number there, so the candidates are others.
    result = nas("measure", run.root, "--pack", "box", "--set", "target.hardware=x86-avx2")

    assert result.exit_code == 0, result.stderr
    pack = Pack.model_validate_json((tmp_path / "box" / "requests.json").read_text())
    assert (pack.device, pack.dtype, pack.prompt_tokens) == ("cpu", "float16", 16)
    assert f"box: {len(pack.runs)} latencies to take" in result.stdout
    assert run.path("space.json").read_bytes() == before
    assert not run.path("costs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pack", "p", "--calibrate", "t.csv"), "one of --pack and --calibrate"),
        (("--output", "c.json"), "--output goes with --calibrate only"),
        (("--output", "c.json", "--pack", "p"), "--output goes with --calibrate only"),
    ],
)
def test_options_that_do_not_go_together(nas: Nas, options: tuple[str, ...], message: str) -> None:
    result = nas("measure", "r", *options)

    assert result.exit_code == 2
    assert message in result.stderr
