"""One job after the other, here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from nas.executors._base import Executor, Job, Outcome, Resident
from nas.executors._function import find_function


class InProcess(Executor):
    """The default: no copies, no files, all threads for one job at a time."""

    def run(
        self, jobs: Iterable[Job], scratch: Path, resident: Resident | None = None
    ) -> Iterator[Outcome]:
        kept = None if resident is None else resident.here()
        waiting = iter(jobs)
        while (job := next(waiting, None)) is not None:
            outcome = _done(job, kept)
            del job  # its arrays, before the next one's are made
            yield outcome
            del outcome  # and what was made of them


def _done(job: Job, resident: object) -> Outcome:
    started = time.perf_counter()
    try:
        tensors, facts = find_function(job.function)(job.tensors, job.facts, resident)
    except Exception as error:
        return Outcome(job.name, error=f"{type(error).__name__}: {error}", cause=error)
    return Outcome(job.name, tensors, facts, time.perf_counter() - started)
