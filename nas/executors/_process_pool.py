"""Workers on this machine, each a process of its own that can die without harm."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.errors import PassError
from nas.executors._base import Executor, Job, Outcome, Resident, Tensors

_UNIT_SECONDS = 3600.0
_TRIES = 2


class ProcessPool(Executor):
    """`workers` processes of `threads` threads; by default the cores at hand, shared evenly.

    A worker that dies, runs out of memory or takes longer than `unit_seconds` for a job is replaced
    and its job done once more by another. Arrays travel in memory-mapped files.
    """

    def __init__(
        self, workers: int, *, threads: int | None = None, unit_seconds: float | None = None
    ) -> None:
        self.workers = workers
        self.threads = threads or max(1, len(os.sched_getaffinity(0)) // workers)
        self.unit_seconds = unit_seconds or _UNIT_SECONDS

    def run(
        self,
        jobs: Iterable[Job],
        scratch: Path,
        resident: Resident | None = None,
        *,
        count: int | None = None,
    ) -> Generator[Outcome, None, None]:
        scratch.mkdir(parents=True, exist_ok=True)
        crew = _Crew(self, scratch)
        try:
            for _ in range(self.workers if count is None else min(self.workers, count)):
                crew.hire()
            yield from crew.work(jobs, None if resident is None else _parcel(resident, scratch))
        finally:
            crew.dismiss()
            shutil.rmtree(scratch, ignore_errors=True)


@dataclass
class _Task:
    """A job that lies in files: what a worker is told fits into any pipe, so nobody waits for one
    that does not read."""

    name: str
    ask: Path
    tensors: Path
    result: Path
    tries: int = 0

    def forget(self) -> None:
        for path in (self.ask, self.tensors, self.result):
            path.unlink(missing_ok=True)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    log: Path
    task: _Task | None = None
    deadline: float = 0.0
    heard: bytearray = field(default_factory=bytearray)

    def ask(self, task: _Task, seconds: float) -> None:
        """A worker that is gone already is noticed where its answer is read."""
        self.task, self.deadline = task, time.monotonic() + seconds
        task.tries += 1
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(str(task.ask)).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any] | None:
        """Read on; the answer once it is whole. Raises EOFError where the worker is gone."""
        assert self.process.stdout is not None
        piece = os.read(self.process.stdout.fileno(), 2**16)
        if not piece:
            raise EOFError
        self.heard += piece
        if not self.heard.endswith(b"\n"):
            return None
        line, self.heard = bytes(self.heard), bytearray()
        found: dict[str, Any] = json.loads(line)
        return found

    def why(self) -> str:
        """How the process ended."""
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "its worker was killed, by the system where memory ran out"
        if code < 0:
            return f"its worker was ended by {signal.Signals(-code).name}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"its worker ended with code {code} ({lines[-1] if lines else 'no message'})"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not sent goes nowhere
                    pipe.close()


class _Crew:
    """The workers of one call and what they are at."""

    def __init__(self, pool: ProcessPool, scratch: Path) -> None:
        self.pool, self.scratch = pool, scratch
        self.selector = selectors.DefaultSelector()
        self.workers: list[_Worker] = []
        self.hired = 0

    def work(self, jobs: Iterable[Job], resident: dict[str, Any] | None) -> Iterator[Outcome]:
        tasks = _tasks(jobs, self.scratch, resident)
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
            if self._idle() == self.pool.workers:
                return
            for worker in self._ready():
                yield from self._settle(worker, waiting)

    def dismiss(self) -> None:
        for worker in self.workers:
            worker.end()
        self.selector.close()

    def _idle(self) -> int:
        return self.pool.workers - sum(worker.task is not None for worker in self.workers)

    def _assign(self, waiting: deque[_Task]) -> None:
        """Give waiting tasks to idle workers; those that were lost are replaced as needed."""
        while waiting and self._idle():
            worker = next((w for w in self.workers if w.task is None), None) or self.hire()
            worker.ask(waiting.popleft(), self.pool.unit_seconds)

    def hire(self) -> _Worker:
        """Start a worker; its imports take seconds, so the sooner the better."""
        self.hired += 1
        log = self.scratch / f"worker-{self.hired}.log"
        threads = str(self.pool.threads)
        paths = [path or os.getcwd() for path in sys.path]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "nas.executors._worker", threads],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        worker = _Worker(process, log)
        assert process.stdout is not None
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        self.workers.append(worker)
        return worker

    def _ready(self) -> list[_Worker]:
        """Workers that have said something, or are overdue."""
        busy = [worker for worker in self.workers if worker.task is not None]
        rest = min((worker.deadline for worker in busy), default=time.monotonic())
        found = self._heard(max(0.0, rest - time.monotonic()))
        now = time.monotonic()
        return found + [w for w in busy if w.deadline <= now and w not in found]

    def _heard(self, seconds: float) -> list[_Worker]:
        """Workers that say something within `seconds`, at least one of them."""
        return [key.data for key, _ in self.selector.select(seconds)]

    def _settle(self, worker: _Worker, waiting: deque[_Task]) -> Iterator[Outcome]:
        if worker not in self._heard(0.0):  # asked now: this process may have been busy meanwhile
            limit = self.pool.unit_seconds
            yield from self._lost(worker, f"its worker gave no answer in {limit:g} s", waiting)
            return
        try:
            answer = worker.answer()
        except EOFError:
            yield from self._lost(worker, worker.why(), waiting)
            return
        if answer is not None and worker.task is not None:
            task, worker.task = worker.task, None
            if answer.get("again"):
                self._retire(worker)
                yield from self._again(task, answer["error"], waiting)
            elif answer.get("fatal"):
                raise PassError(f"{task.name}: {answer['error']}")
            else:
                yield _outcome(task, answer)

    def _lost(self, worker: _Worker, why: str, waiting: deque[_Task]) -> Iterator[Outcome]:
        task = worker.task
        self._retire(worker)
        if task is not None:
            yield from self._again(task, why, waiting)

    def _again(self, task: _Task, why: str, waiting: deque[_Task]) -> Iterator[Outcome]:
        if task.tries < _TRIES:
            waiting.appendleft(task)
            return
        task.forget()
        yield Outcome(task.name, error=f"{why}; tried {task.tries} times")

    def _retire(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        self.selector.unregister(worker.process.stdout)
        self.workers.remove(worker)
        worker.end()


def _tasks(jobs: Iterable[Job], scratch: Path, resident: dict[str, Any] | None) -> Iterator[_Task]:
    """Each job's arrays are let go of before the next one's are made."""
    waiting, number = iter(jobs), 0
    while (job := next(waiting, None)) is not None:
        task, number = _task(job, number, scratch, resident), number + 1
        del job
        yield task


def _task(job: Job, number: int, scratch: Path, resident: dict[str, Any] | None) -> _Task:
    task = _Task(
        job.name,
        ask=scratch / f"{number}.json",
        tensors=scratch / f"{number}.safetensors",
        result=scratch / f"{number}.result.safetensors",
    )
    ask = {
        "function": job.function,
        "facts": job.facts,
        "device": job.device,
        "tensors": _written(job.tensors, task.tensors),
        "result": str(task.result),
        "resident": resident,
    }
    with _writing(task.ask):
        task.ask.write_text(json.dumps(ask), encoding="utf-8")
    return task


def _parcel(resident: Resident, scratch: Path) -> dict[str, Any]:
    path = _written(resident.tensors, scratch / "resident.safetensors")
    return {"function": resident.function, "facts": resident.facts, "tensors": path}


def _written(tensors: Tensors, path: Path) -> str:
    from safetensors.torch import save_file

    with _writing(path):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise PassError(f"cannot write {path}: {error}") from error


def _outcome(task: _Task, answer: dict[str, Any]) -> Outcome:
    from safetensors.torch import load_file

    if "error" in answer:
        task.forget()
        return Outcome(task.name, error=answer["error"])
    # Copies, since the file is removed and its memory map would keep the space.
    tensors = {name: value.clone() for name, value in load_file(task.result).items()}
    task.forget()
    return Outcome(task.name, tensors, answer["facts"], answer["seconds"])
