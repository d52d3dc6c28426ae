"""What a disk may do to a finished run: it is found, named and made again, byte by byte."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import NasError, PassError
from nas.readers import read_status
from nas.run import RunDirectory
from tests.chaos.harness import contents, fork, scratch, wait

Make = Callable[..., RunConfig]
_STOP = "evaluate"


@pytest.fixture(scope="module")
def config(small_config: Make) -> RunConfig:
    return small_config(build={"tokens": 480}, refine={"rounds": 1, "draws": 2})


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "run"
    compile_run(config, RunDirectory.create(root), stop=_STOP)
    return root


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunDirectory:
    """A copy that may be damaged."""
    return RunDirectory.open(Path(shutil.copytree(whole, tmp_path / "run")))


def _flipped(data: bytes, number: int) -> bytes:
    at = number * 7919 % max(1, len(data))
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def _truncated(data: bytes, number: int) -> bytes:
    return data[: number * 7919 % max(1, len(data))]


def _first_of_each_pass(run: RunDirectory, *, records: bool) -> list[Path]:
    """A file of each pass and kind: its record, or one of the files that the record names."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(run.path("units").rglob("*.json")):
        name = path.relative_to(run.path("units")).with_suffix("")
        record = run.record(str(name))
        assert record is not None
        files = [path] if records else [run.path(file) for file in record.files]
        for file in files:
            if file.stat().st_size:
                found.setdefault((name.parts[0], file.suffix), file)
    return list(found.values())


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("damage", [_flipped, _truncated])
def test_damage_is_named_and_repaired(
    damage: Callable[[bytes, int], bytes],
    records: bool,
    run: RunDirectory,
    whole: Path,
    config: RunConfig,
) -> None:
    harmed = _first_of_each_pass(run, records=records)
    assert len(harmed) >= 8
    for number, path in enumerate(harmed):
        path.write_bytes(damage(path.read_bytes(), number + 1))
    compile_run(config, RunDirectory.open(run.root), stop=_STOP)
    events = [e for e in run.events() if e["event"] == "damaged"]
    named = {str(run.root / e["file"]) for e in events}
    assert {str(path) for path in harmed} <= named
    assert contents(run.root) == contents(whole)


def test_a_clock_that_is_set_back_changes_nothing(
    whole: Path, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 86400
        return now[0]

    root = tmp_path / "run"
    monkeypatch.setattr(time, "time", earlier)
    compile_run(config, RunDirectory.create(root), stop="solve")
    compile_run(config, RunDirectory.open(root), stop=_STOP)
    assert contents(root) == contents(whole)
    assert read_status(RunDirectory.open(root)).missing_files == ()
    assert compile_run(config, RunDirectory.open(root), stop=_STOP).nothing_to_do


@pytest.mark.parametrize("largest", [1000, 20_000, 60_000])
def test_a_disk_that_takes_no_more(
    largest: int, whole: Path, config: RunConfig, tmp_path: Path
) -> None:
    """No file may grow beyond `largest` bytes; the system refuses the write, as on a full disk."""
    root = tmp_path / "run"

    def attempt() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        with pytest.raises(PassError, match=r"cannot (write|be written)"):
            compile_run(config, RunDirectory.create(root), stop=_STOP)

    assert wait(fork(attempt)) == 0
    assert not [name for name in scratch(root) if not name.startswith("checkpoints/")]
    compile_run(config, RunDirectory.create(root), stop=_STOP)
    assert contents(root) == contents(whole)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a user who may not write")
@pytest.mark.parametrize("new", [True, False])
def test_a_folder_that_may_only_be_read(
    new: bool, run: RunDirectory, config: RunConfig, tmp_path: Path
) -> None:
    root = tmp_path / "absent" if new else run.root
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)

    def attempt() -> None:
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(NasError, match=r"cannot write .*: Permission denied"):
            compile_run(config, RunDirectory.create(root), stop=_STOP)

    assert wait(fork(attempt)) == 0


@pytest.mark.parametrize("module", ["huggingface._folder", "onnx._files"])
def test_what_a_killed_export_was_writing_is_swept_away(
    module: str, small_config: Make, tmp_path: Path
) -> None:
    """The process ends between the last byte and the rename."""
    config, run = (
        small_config(export={"formats": ["huggingface", "onnx"]}),
        RunDirectory.create(tmp_path / "run"),
    )
    compile_run(config, run, stop="assemble")

    def attempt() -> None:
        writer = importlib.import_module(f"nas.backends.{module}")
        writer._flush = lambda path: os._exit(9)
        compile_run(config, run, stop="export")

    assert wait(fork(attempt)) == 9
    assert [name for name in scratch(run.root) if not name.startswith("checkpoints/")]
    compile_run(config, run, stop="export")
    assert not scratch(run.root)
