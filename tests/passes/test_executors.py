"""Whole runs by other executors: the same bytes; what fails is left out, and said."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import pytest

from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import PassError
from nas.executors import Executor, InProcess, Job, Outcome, ProcessPool, Resident
from nas.progress import SilentProgress
from nas.run import RunDirectory, file_digest
from tests.chaos.harness import contents

Make = Callable[..., RunConfig]


class _Without(InProcess):
    """Fails the jobs of a slot in a way that no exception tells of."""

    def __init__(self, slot: str, function: str) -> None:
        super().__init__()
        self.slot, self.function = slot, function

    def run(
        self,
        jobs: Iterable[Job],
        scratch: Path,
        resident: Resident | None = None,
        *,
        count: int | None = None,
    ) -> Generator[Outcome, None, None]:
        for job in jobs:
            if job.name == self.slot and job.function.endswith(self.function):
                yield Outcome(job.name, error="its worker was killed; tried 2 times")
            else:
                yield from super().run([job], scratch, resident)


def _run(config: RunConfig, root: Path, executor: Executor | None = None, stop: str = "score"):
    return compile_run(config, RunDirectory.create(root), stop=stop, executor=executor)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_pool_makes_the_same_bytes(
    family: str, small_config: Make, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Mistral's sliding window adds a mask to what travels."""
    config = small_config(
        teacher={"source": str(tiny_folder(family))}, build={"tokens": 480, "epochs": 1}
    )
    _run(config, tmp_path / "here")
    _run(config, tmp_path / "there", ProcessPool(2, threads=1))
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert (tmp_path / "there" / "scores" / "layers.0.attention.parquet").is_file()
    weights = "library/layers.0.attention/kv1/block.safetensors"
    assert file_digest(tmp_path / "here" / weights) == file_digest(tmp_path / "there" / weights)


def test_a_pool_goes_on_from_drafts(small_config: Make, tmp_path: Path) -> None:
    config = small_config(prune={"keep": 0.6, "calibrate": 4, "draws": 2})
    _run(config, tmp_path / "here", stop="build")
    _run(config, tmp_path / "there", ProcessPool(1, threads=1), stop="build")
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_a_run_that_goes_on_with_other_threads_says_so(small_config: Make, tmp_path: Path) -> None:
    config, run, said = small_config(), RunDirectory.create(tmp_path / "run"), _Said()
    for stop, threads in (("build", 1), ("score", 1), ("score", 2)):
        if threads == 2:
            shutil.rmtree(tmp_path / "run" / "units" / "score")
        assert not said.texts
        compile_run(config, run, said, stop=stop, executor=InProcess(threads=threads))
        said.texts = [text for text in said.texts if "threads" in text]
    (text,) = said.texts
    assert "units so far had threads: 1; those that follow have 2" in text
    assert [e["threads"] for e in run.events() if e["event"] == "work"] == [1, 2]


class _Said(SilentProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize("function", ["build_slot", "score_slot"])
def test_a_unit_that_fails_ends_the_run_and_names_itself(
    function: str, small_config: Make, tmp_path: Path
) -> None:
    broken = _Without("layers.1.ffn", function)
    with pytest.raises(PassError, match=r"layers\.1\.ffn: its worker was killed.*--continue-on"):
        _run(small_config(), tmp_path / "run", broken)
    failed = [e for e in RunDirectory.open(tmp_path / "run").events() if e["event"] == "failed"]
    assert len(failed) == 1
    assert all("layers.1.ffn" in unit for unit in failed[0]["units"])


@pytest.mark.parametrize("function", ["build_slot", "score_slot"])
def test_a_run_may_go_on_without_it_and_tries_it_again(
    function: str, small_config: Make, tmp_path: Path
) -> None:
    config, root = small_config(budgets={"params_m": 0.03}), tmp_path / "run"
    broken = _Without("layers.1.ffn", function)
    run = RunDirectory.create(root)
    outcome = compile_run(config, run, stop="assemble", executor=broken, continue_on_error=True)
    assert outcome.failed
    assert {unit.split("/")[1] for unit in outcome.failed} <= {"layers.1.ffn", "uniform"}
    chosen = _choice(root)
    assert chosen["layers.1.ffn"] == "teacher"
    again = compile_run(config, RunDirectory.open(root), stop="assemble")
    assert not again.failed
    whole = tmp_path / "whole"
    compile_run(config, RunDirectory.create(whole), stop="assemble")
    built = {name for name in contents(whole) if name.startswith(("units/build", "scores/"))}
    assert built
    assert all(contents(root)[name] == contents(whole)[name] for name in built)


def _choice(root: Path) -> dict[str, str]:
    (record,) = RunDirectory.open(root).path("units", "solve").glob("*.json")
    found = RunDirectory.open(root).record(f"solve/{record.stem}")
    assert found is not None
    choice: dict[str, str] = found.data["choice"]
    return choice


def test_an_exception_of_this_process_is_raised_as_it_was(
    small_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("seven")

    monkeypatch.setattr("nas.passes.build.train_blocks", broken)
    with pytest.raises(ZeroDivisionError, match="seven"):
        _run(small_config(), tmp_path / "run")
