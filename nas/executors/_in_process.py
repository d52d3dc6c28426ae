"""One job after the other, here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from nas.errors import PassError
from nas.executors._base import Executor, Job, Outcome, Resident
from nas.executors._failure import no_room_on_disk
from nas.executors._function import find_function


class InProcess(Executor):
    """The default: no copies, no files; one job at a time, by default with all threads of torch."""

    def __init__(self, *, threads: int | None = None) -> None:
        self._wanted = threads

    @property
    def threads(self) -> int:  # type: ignore[override]  # asked when torch is there
        import torch

        return self._wanted or torch.get_num_threads()

    def run(
        self,
        jobs: Iterable[Job],
        scratch: Path,
        resident: Resident | None = None,
        *,
        count: int | None = None,
    ) -> Generator[Outcome, None, None]:
        kept = None if resident is None else resident.here()
        waiting = iter(jobs)
        while (job := next(waiting, None)) is not None:
            with _threads(self.threads):
                outcome = _done(job, kept)
            del job  # its arrays, before the next one's are made
            yield outcome
            del outcome  # and what was made of them


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """For the job alone: what its arrays are made of is the caller's work, with any executor."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _done(job: Job, resident: object) -> Outcome:
    started = time.perf_counter()
    try:
        tensors, facts = find_function(job.function)(job.tensors, job.facts, resident)
    except Exception as error:
        if no_room_on_disk(error):
            raise PassError(f"{job.name}: {error}") from error
        return Outcome(job.name, error=f"{type(error).__name__}: {error}", cause=error)
    return Outcome(job.name, tensors, facts, time.perf_counter() - started)
