"""Workers in a Ray cluster (arXiv 1712.05889), on this machine or one that is there already."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas._imports import require
from nas.errors import PassError
from nas.executors._base import Executor, Job, Outcome, Resident
from nas.executors._ray_worker import RayWorker, packed, unpacked

_UNIT_SECONDS = 3600.0
_TRIES = 2
_ANSWER_SECONDS = 10.0

_joined: dict[str, Any] = {}
"""How this process connected to Ray: it can belong to one cluster at a time, and stays."""


class RayCluster(Executor):
    """`workers` actors of `threads` CPUs each, with a GPU where jobs are for one.

    Without `address`, a cluster of this machine's processes is started and ends with this process.
    With it (`ray://HOST:PORT`, `HOST:PORT` or `auto`) there is a worker a node by default, on all
    of its CPUs. nas has to be installed on every node, and run directory and teacher have to be at
    the same path there: scoring reads both. Arrays travel in the object store, those of few jobs at
    a time.

    A worker that is lost, or takes longer than `unit_seconds` for a job, is replaced and its job
    done once more by another. On a cluster that is there, each asks for the memory of its first
    job. Where a cluster has had room for no worker after `unit_seconds`, it is a PassError.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        threads: int | None = None,
        unit_seconds: float | None = None,
    ) -> None:
        self.workers = workers or 1
        self._wanted, self.address = workers, address
        self.threads = threads or max(1, len(os.sched_getaffinity(0)) // self.workers)
        self._threads_wanted = threads
        self.unit_seconds = unit_seconds or _UNIT_SECONDS

    def run(
        self,
        jobs: Iterable[Job],
        scratch: Path,
        resident: Resident | None = None,
        *,
        count: int | None = None,
    ) -> Generator[Outcome, None, None]:
        waiting = iter(jobs)
        first = next(waiting, None)
        if first is None:
            return  # a cluster is not started for nothing
        ray = self.connect()
        crew = _Crew(self, ray, first, count)
        try:
            yield from crew.work(_tasks(first, waiting, ray, resident))
        finally:
            crew.dismiss()

    def connect(self) -> Any:
        """Ray, connected. Raises CapabilityError where it is missing, PassError where the cluster
        does not answer."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nas tells nobody of its runs
        if self.address is None:  # Ray's own choice, 15, leaves them what nobody else wants
            os.environ.setdefault("RAY_worker_niceness", "0")
        ray = require("ray", extra="ray")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            options |= {"num_cpus": self.workers * self.threads, "include_dashboard": False}
        options["address"] = self.address or "local"
        try:
            if _joined != options or not ray.is_initialized():
                _knock(self.address)
                ray.shutdown()
                ray.init(**options)
                _joined.clear()
                _joined.update(options)
            if self.address is not None:
                self._look_around(ray)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            where = self.address or "on this machine"
            raise PassError(f"the Ray cluster {where} does not answer: {error}") from error
        return ray

    def _look_around(self, ray: Any) -> None:
        """How many workers of how many threads the cluster has room for."""
        found = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
        nodes = [cpus for cpus in found if cpus]
        if not nodes:
            raise PassError(f"the Ray cluster {self.address} has no node with a CPU")
        self.workers = self._wanted or len(nodes)
        share = sum(nodes) // self.workers if self._wanted else min(nodes)
        self.threads = self._threads_wanted or max(1, min(share, min(nodes)))


@dataclass
class _Task:
    """A job whose arrays lie in the object store."""

    name: str
    ask: str
    arrays: Any
    resident: Any
    tries: int = 0


@dataclass
class _Busy:
    actor: Any
    task: _Task | None
    """None for a worker that is starting."""
    deadline: float


class _Crew:
    """The actors of one call and what they are at."""

    def __init__(self, cluster: RayCluster, ray: Any, first: Job, count: int | None) -> None:
        self.cluster, self.ray = cluster, ray
        self.idle: list[Any] = []
        self.busy: dict[Any, _Busy] = {}
        self.failed_starts = 0
        self.most = min(cluster.workers, count or cluster.workers)
        self.needs: dict[str, float] = {
            "num_cpus": cluster.threads,
            "num_gpus": 1 if first.device.startswith("cuda") else 0,
        }
        if cluster.address is not None:
            self.needs["memory"] = int(first.memory_mib * 2**20)
        self.actor = ray.remote(RayWorker).options(
            **self.needs, max_restarts=0, runtime_env={"env_vars": _environment(cluster)}
        )

    def work(self, tasks: Iterator[_Task]) -> Iterator[Outcome]:
        waiting: deque[_Task] = deque()
        drained = False
        while True:
            if not waiting and not drained:
                task = next(tasks, None)
                drained = task is None
                waiting += () if task is None else (task,)
            self._assign(waiting)
            if not waiting and not drained:
                continue  # one task is kept ready, so that no worker waits while it is prepared
            if not waiting and not any(b.task for b in self.busy.values()):
                return
            for ref in self._ready():
                yield from self._settle(ref, self.busy.pop(ref), waiting)

    def dismiss(self) -> None:
        for actor in [*self.idle, *(busy.actor for busy in self.busy.values())]:
            self.ray.kill(actor)

    def _assign(self, waiting: deque[_Task]) -> None:
        """Give waiting tasks to idle workers, and start others where there are not enough."""
        while waiting and self.idle:
            actor, task = self.idle.pop(), waiting.popleft()
            task.tries += 1
            ref = actor.work.remote(task.ask, task.arrays, task.resident)
            self.busy[ref] = _Busy(actor, task, time.monotonic() + self.cluster.unit_seconds)
        while waiting and len(self.busy) < self.most:
            actor = self.actor.remote(self.cluster.threads)
            limit = time.monotonic() + self.cluster.unit_seconds
            self.busy[actor.ready.remote()] = _Busy(actor, None, limit)

    def _ready(self) -> list[Any]:
        """What has come to an end, or is overdue."""
        rest = min(busy.deadline for busy in self.busy.values()) - time.monotonic()
        done, _ = self.ray.wait(list(self.busy), timeout=min(max(0.0, rest), 3600.0))
        now = time.monotonic()
        overdue = [ref for ref, busy in self.busy.items() if busy.deadline <= now]
        return [*done, *(ref for ref in overdue if ref not in done)]

    def _settle(self, ref: Any, ended: _Busy, waiting: deque[_Task]) -> Iterator[Outcome]:
        task = ended.task
        overdue = ended.deadline <= time.monotonic()
        if overdue and not self.ray.wait([ref], timeout=0)[0]:
            self.ray.kill(ended.actor)
            limit = self.cluster.unit_seconds
            if task is None:
                self._no_room(limit)
                return
            yield from self._again(task, f"its worker gave no answer in {limit:g} s", waiting)
            return
        try:
            answer = self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            why = str(error).strip().splitlines()[0]
            if task is None:
                self.failed_starts += 1
                if self.failed_starts < _TRIES:
                    return  # another is started where one is needed
                if self.idle or self.busy:
                    self.most -= 1  # the others go on
                    return
                raise PassError(f"no worker could be started in the Ray cluster: {why}") from error
            yield from self._again(task, f"its worker was lost ({why})", waiting)
            return
        if task is None:
            self.failed_starts = 0
            self.idle.append(ended.actor)
            return
        facts, arrays = json.loads(answer[0]), answer[1]
        if facts.get("again"):
            self.ray.kill(ended.actor)
            yield from self._again(task, facts["error"], waiting)
            return
        self.idle.append(ended.actor)
        if facts.get("fatal"):
            raise PassError(f"{task.name}: {facts['error']}")
        if "error" in facts:
            yield Outcome(task.name, error=facts["error"])
        else:
            yield Outcome(task.name, unpacked(arrays), facts["facts"], facts["seconds"])

    def _no_room(self, seconds: float) -> None:
        """The others go on without a worker that found no place; PassError where there are none."""
        if self.idle or any(busy.task for busy in self.busy.values()):
            return
        needs = ", ".join(f"{name} {value:g}" for name, value in self.needs.items() if value)
        raise PassError(
            f"the Ray cluster had no room for a worker in {seconds:g} s; each asks for {needs} "
            "(--unit-timeout waits longer)"
        )

    def _again(self, task: _Task, why: str, waiting: deque[_Task]) -> Iterator[Outcome]:
        if task.tries < _TRIES:
            waiting.appendleft(task)
        else:
            yield Outcome(task.name, error=f"{why}; tried {task.tries} times")


def _tasks(
    first: Job, others: Iterator[Job], ray: Any, resident: Resident | None
) -> Iterator[_Task]:
    """Each job's arrays are let go of before the next one's are made."""
    shared, asked = None, None
    if resident is not None:
        shared = ray.put(packed(resident.tensors))
        name = uuid.uuid4().hex
        asked = {"function": resident.function, "facts": resident.facts, "name": name}
    job: Job | None = first
    del first
    while job is not None:
        facts = {"function": job.function, "facts": job.facts, "device": job.device}
        task = _Task(
            job.name, json.dumps({**facts, "resident": asked}), ray.put(packed(job.tensors)), shared
        )
        job = None
        yield task
        del task
        job = next(others, None)


def _knock(address: str | None) -> None:
    """Raises OSError where nobody listens; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()


def _environment(cluster: RayCluster) -> dict[str, str]:
    """Sums depend on the number of threads; on this machine, workers import what this process
    does."""
    found = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(cluster.threads))
    if cluster.address is None:
        found["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return found
