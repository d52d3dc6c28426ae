"""Every executor gives what every other does; workers that fail harm nobody else."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from nas.errors import CapabilityError, ConfigError, PassError
from nas.executors import (
    Executor,
    InProcess,
    Job,
    Outcome,
    ProcessPool,
    RayCluster,
    Resident,
    create_executor,
)
from nas.executors._failure import described
from nas.executors._ray_worker import RayWorker

ROOT = Path(__file__).parents[2]
HERE = "tests.executors.jobs"
NAMES = ("in-process", "process:1", "process:2", "ray:1", "ray:2")


@pytest.fixture(params=NAMES)
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param.startswith("ray"):
        pytest.importorskip("ray", reason="needs Ray")
    return create_executor(request.param)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def _job(name: str, function: str = "doubled", **facts: Any) -> Job:
    """A tensor that is a function of the name, in three number formats."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    x = torch.randn(5, 7, generator=generator)
    tensors = {"x": x, "half": x.bfloat16(), "count": torch.arange(3), "turned": x.T}
    return Job(name, f"{HERE}:{function}", tensors, facts)


def _by_name(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    found = list(outcomes)
    assert len({o.name for o in found}) == len(found)
    return {o.name: o for o in found}


def test_every_job_gets_its_own_outcome(executor: Executor, scratch: Path) -> None:
    jobs = [_job(f"job {i}", number=i, share=0.1, ragged=[1, [2]]) for i in range(5)]
    found = _by_name(executor.run(iter(jobs), scratch))
    assert found.keys() == {job.name for job in jobs}
    for job in jobs:
        outcome = found[job.name]
        assert outcome.error is None
        assert outcome.facts == {"saw": job.facts}
        assert outcome.seconds >= 0
        for name, tensor in job.tensors.items():
            assert outcome.tensors[name].dtype == (2 * tensor + 0.0).dtype
            assert torch.equal(outcome.tensors[name], 2 * tensor + 0.0)
    assert not scratch.exists()


def test_no_jobs_need_no_workers(executor: Executor, scratch: Path) -> None:
    assert list(executor.run((), scratch)) == []


def test_a_failing_job_says_why_and_the_others_go_on(executor: Executor, scratch: Path) -> None:
    jobs = [_job("a"), _job("b", "broken"), _job("c")]
    found = _by_name(executor.run(jobs, scratch))
    assert found["b"].error == "ValueError: seven"
    assert found["a"].error is found["c"].error is None


def test_a_resident_is_made_once_for_each_worker(
    executor: Executor, scratch: Path, marks: Path
) -> None:
    offset = torch.tensor(0.5)
    facts = {"marks": str(marks)}
    kept = Resident(f"{HERE}:resident", {"offset": offset}, facts, lambda: {"offset": 0.5})
    jobs = [_job(f"job {i}") for i in range(6)]
    found = _by_name(executor.run(jobs, scratch, kept))
    for job in jobs:
        assert torch.equal(found[job.name].tensors["x"], 2 * job.tensors["x"] + 0.5)
    workers = 0 if isinstance(executor, InProcess) else executor.workers  # type: ignore[attr-defined]
    made = len({path.name.split("-")[0] for path in marks.iterdir()})
    assert len(list(marks.iterdir())) == made
    # the first of Ray's workers may have done all before the second has started
    assert (
        min(1, workers) <= made <= workers if isinstance(executor, RayCluster) else made == workers
    )


def test_jobs_are_drawn_as_there_is_room(executor: Executor, scratch: Path) -> None:
    drawn = 0

    def jobs() -> Iterator[Job]:
        nonlocal drawn
        for i in range(8):
            drawn += 1
            yield _job(f"job {i}")

    outcomes = executor.run(jobs(), scratch)
    next(outcomes)
    room = 1 if isinstance(executor, InProcess) else 2 * executor.workers + 1  # type: ignore[attr-defined]
    assert drawn <= room
    assert len(list(outcomes)) == 7


def test_who_stops_listening_leaves_nothing_behind(scratch: Path) -> None:
    outcomes = ProcessPool(1).run([_job("a"), _job("b")], scratch)
    next(outcomes)
    outcomes.close()
    assert not scratch.exists()


@pytest.mark.parametrize(
    ("function", "facts", "message"),
    [
        ("dies", {}, "its worker was killed, by the system where memory ran out; tried 2 times"),
        ("dies", {"signal": signal.SIGSEGV}, "its worker was ended by SIGSEGV; tried 2 times"),
        ("starved", {}, "MemoryError: no more; tried 2 times"),
        ("hangs", {}, "its worker gave no answer in 6 s; tried 2 times"),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_what_a_worker_could_not_do_is_tried_once_more(
    function: str, facts: dict[str, Any], message: str, times: int, scratch: Path, marks: Path
) -> None:
    pool = ProcessPool(1, unit_seconds=6 if function == "hangs" else None)
    bad = _job("bad", function, times=times, marks=str(marks), **facts)
    found = _by_name(pool.run([bad, _job("good")], scratch))
    assert found["good"].error is None
    assert len(list(marks.iterdir())) == 2
    if times == 1:
        assert found["bad"].error is None
        assert torch.equal(found["bad"].tensors["x"], bad.tensors["x"])
    else:
        assert found["bad"].error == message


def test_an_answer_that_waited_for_a_busy_parent_is_not_overdue(scratch: Path) -> None:
    def jobs() -> Iterator[Job]:
        yield _job("a")
        _wait_for(lambda: list(scratch.glob("*.result.safetensors")))
        time.sleep(1)  # until the worker has said so

    pool = ProcessPool(1, unit_seconds=0.1)
    (outcome,) = pool.run(jobs(), scratch)
    assert outcome.error is None


@pytest.mark.parametrize("name", NAMES)
def test_jobs_get_the_threads_that_were_asked_for(name: str, scratch: Path) -> None:
    if name.startswith("ray"):
        pytest.importorskip("ray", reason="needs Ray")
    executor, before = create_executor(name, threads=3), torch.get_num_threads()
    (outcome,) = executor.run([_job("a", "threads")], scratch)
    assert outcome.facts == {"threads": 3}
    assert executor.threads == 3
    assert torch.get_num_threads() == before


def test_workers_share_what_there_is(scratch: Path) -> None:
    assert ProcessPool(1024).threads == 1
    assert InProcess().threads == torch.get_num_threads()


def test_a_full_disk_ends_the_work_and_is_no_failed_job(executor: Executor, scratch: Path) -> None:
    jobs = [_job("a"), _job("b", "full"), _job("c")]
    with pytest.raises(PassError, match=r"b: .*No space left on device"):
        list(executor.run(jobs, scratch))
    assert not scratch.exists()


@pytest.mark.parametrize(
    ("error", "again", "fatal"),
    [
        (MemoryError("no more"), True, False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), True, False),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), True, False),
        (ValueError("widths are allocated by slot"), False, False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), False, True),
        (OSError(errno.EROFS, "Read-only file system"), False, True),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False, False),
        (SafetensorError("Error: I/O error: No space left on device (os error 28)"), False, True),
        (SafetensorError("Error while deserializing header"), False, False),
        (ValueError("no space left on device"), False, False),
    ],
)
def test_what_a_failure_is_of(error: Exception, again: bool, fatal: bool) -> None:
    found = described(error)
    assert (found["again"], found["fatal"]) == (again, fatal)


def test_a_worker_that_does_not_read_holds_nobody_up(scratch: Path, marks: Path) -> None:
    """A job's facts are larger than a pipe; its worker is stopped before it is told of them."""

    def stopped() -> bool:
        return any(_state(mark.name.split("-")[0]) == "T" for mark in marks.iterdir())

    def jobs() -> Iterator[Job]:
        yield _job("first", "stops", marks=str(marks))
        _wait_for(stopped)
        yield _job("second", words="x" * 2**18)

    found = _by_name(ProcessPool(1, unit_seconds=10).run(jobs(), scratch))
    assert found["first"].error is None
    assert found["second"].error is None


def test_workers_end_with_the_process_that_started_them(tmp_path: Path, marks: Path) -> None:
    code = f"""
from pathlib import Path
from nas.executors import ProcessPool
from tests.executors.test_contract import _job
jobs = [_job("a", "hangs", times=9, marks={str(marks)!r})]
list(ProcessPool(1).run(jobs, Path({str(tmp_path / "scratch")!r})))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as parent:
        _wait_for(lambda: list(marks.iterdir()))
        worker = int(next(marks.iterdir()).name.split("-")[0])
        parent.kill()
    _wait_for(lambda: not Path(f"/proc/{worker}").exists())


def _state(process: str) -> str:
    stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0]


def _wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "name",
    [
        *("", "process", "process:", "process:0", "process:-1", "process:2/2", "x:2"),
        *(
            "ray",
            "ray:",
            "ray:0",
            "ray:host",
            "ray://host",
            "ray://h:1/0",
            "ray://h:1/x",
            "ray:h:1;",
        ),
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no such executor"):
        create_executor(name)


@pytest.mark.parametrize(
    ("name", "address", "wanted"),
    [
        ("ray:auto", "auto", None),
        ("ray:10.0.0.1:6379", "10.0.0.1:6379", None),
        ("ray://head.example:10001", "ray://head.example:10001", None),
        ("ray://head.example:10001/8", "ray://head.example:10001", 8),
        ("ray:[fe80::1]:6379/2", "[fe80::1]:6379", 2),
    ],
)
def test_a_cluster_that_is_there_is_named_by_its_address(
    name: str, address: str, wanted: int | None
) -> None:
    cluster = create_executor(name)
    assert isinstance(cluster, RayCluster)
    assert (cluster.address, cluster.workers) == (address, wanted or 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("dies", "its worker was lost (.*; tried 2 times"),
        ("starved", "MemoryError: no more; tried 2 times"),
        ("hangs", "its worker gave no answer in 6 s; tried 2 times"),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_what_a_worker_of_ray_could_not_do_is_tried_once_more(
    function: str, message: str, times: int, scratch: Path, marks: Path
) -> None:
    pytest.importorskip("ray", reason="needs Ray")
    cluster = RayCluster(1, unit_seconds=6 if function == "hangs" else None)
    bad = _job("bad", function, times=times, marks=str(marks))
    found = _by_name(cluster.run([bad, _job("good")], scratch))
    assert found["good"].error is None
    assert len(list(marks.iterdir())) == 2
    if times == 1:
        assert found["bad"].error is None
        assert torch.equal(found["bad"].tensors["x"], bad.tensors["x"])
    else:
        assert re.fullmatch(message.replace("(", r"\("), found["bad"].error or "", re.DOTALL)


class _DeadOnArrival:
    """A Ray whose first `deaths` workers are lost while they start."""

    class exceptions:
        class RayError(Exception):
            """What Ray raises for a lost worker."""

    def __init__(self, deaths: int) -> None:
        self.deaths, self.started = deaths, 0

    def remote(self, worker: type) -> Any:
        return self

    def options(self, **_: Any) -> Any:
        return SimpleNamespace(remote=lambda threads: _Actor(self))

    def wait(self, refs: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return refs[:1], refs[1:]

    def get(self, ref: Any) -> Any:
        answer = ref()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Any) -> None:
        """It is gone."""


class _Actor:
    def __init__(self, ray: _DeadOnArrival) -> None:
        ray.started += 1
        lost = ray.exceptions.RayError("the actor died") if ray.started <= ray.deaths else None
        self.worker = RayWorker(1)
        self.ready = SimpleNamespace(remote=lambda: lambda: lost)
        self.work = SimpleNamespace(remote=lambda *asked: partial(self.worker.work, *asked))


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_of_ray_that_is_lost_while_it_starts_is_replaced_once(
    deaths: int, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, ray = RayCluster(1, threads=1), _DeadOnArrival(deaths)
    monkeypatch.setattr(cluster, "connect", lambda: ray)
    outcomes = cluster.run([_job("a"), _job("b")], scratch)
    if deaths == 1:
        assert [o.error for o in outcomes] == [None, None]
    else:
        with pytest.raises(PassError, match=r"no worker could be started .*the actor died"):
            list(outcomes)
    assert ray.started == 2


def test_the_others_of_ray_go_on_without_a_worker_that_does_not_start(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, ray = RayCluster(2, threads=1), _DeadOnArrival(2)
    monkeypatch.setattr(cluster, "connect", lambda: ray)
    assert [o.error for o in cluster.run([_job("a"), _job("b")], scratch)] == [None, None]
    assert ray.started == 3


def test_no_more_workers_start_than_there_are_jobs(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, ray = RayCluster(8, threads=1), _DeadOnArrival(0)
    monkeypatch.setattr(cluster, "connect", lambda: ray)
    assert len(list(cluster.run([_job("a"), _job("b")], scratch, count=2))) == 2
    assert ray.started == 2
    outcomes = ProcessPool(8, threads=1).run([_job("a")], scratch, count=1)
    assert next(outcomes).error is None
    assert len(list(scratch.glob("worker-*.log"))) == 1
    outcomes.close()


def test_a_cluster_without_room_says_what_a_worker_asks_for(scratch: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray")
    job = replace(_job("a"), device="cuda")  # on a machine that has told Ray of no GPU
    cluster = RayCluster(1, threads=1, unit_seconds=3)
    with pytest.raises(PassError, match=r"no room for a worker in 3 s; .*num_gpus 1"):
        list(cluster.run([job], scratch))


def test_on_a_cluster_that_is_there_a_worker_asks_for_memory(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    class Recording(_DeadOnArrival):
        def options(self, **named: Any) -> Any:
            asked.append(named)
            return super().options(**named)

    for address in (None, "head:6379"):
        cluster, ray = RayCluster(1, address=address, threads=1), Recording(0)
        monkeypatch.setattr(cluster, "connect", lambda ray=ray: ray)
        list(cluster.run([replace(_job("a"), memory_mib=5.0)], scratch))
    assert [named.get("memory") for named in asked] == [None, 5 * 2**20]


def test_an_answer_of_ray_that_waited_for_a_busy_parent_is_not_overdue(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, ray = RayCluster(1, threads=1, unit_seconds=1e-9), _DeadOnArrival(0)
    monkeypatch.setattr(cluster, "connect", lambda: ray)
    assert [o.error for o in cluster.run([_job("a"), _job("b")], scratch)] == [None, None]


def test_ray_that_is_missing_is_named(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CapabilityError, match=r"pip install -e '\.\[ray\]'"):
        list(RayCluster(1).run([_job("a")], scratch))


def test_a_cluster_that_does_not_answer(scratch: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray")
    with pytest.raises(PassError, match=r"the Ray cluster 127\.0\.0\.1:9 does not answer"):
        list(RayCluster(address="127.0.0.1:9").run([_job("a")], scratch))
