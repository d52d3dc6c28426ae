"""The protocol: a job is a named function of arrays and plain facts, and gives the same back.

A function never sees the run directory's records and an executor never sees what a block is. So a
job can be done here, in another process or on another machine, and only arrays (safetensors) and
JSON travel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = Mapping[str, Tensor]
else:
    Tensors = Mapping

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Resident:
    """What many jobs need, such as a teacher: made once for each worker and kept there.

    `function`, as `module:name`, makes it from tensors and facts. `here` is the one of this
    process.
    """

    function: str
    tensors: Tensors
    facts: Facts
    here: Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """One unit of work. `function`, as `module:name`, takes (tensors, facts, resident) and returns
    (tensors, facts); facts survive JSON. It is pure: done twice, it gives the same bytes.

    `name` is for messages. `device` is where a worker puts the tensors. `memory_mib` is what it
    takes at most, by the plan; 0 where nobody knows.
    """

    name: str
    function: str
    tensors: Tensors
    facts: Facts
    device: str = "cpu"
    memory_mib: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of the job called `name`; `error` says why nothing did. `cause` is the exception,
    where it was raised in this process. `seconds`: the time of the function alone."""

    name: str
    tensors: Tensors = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    cause: Exception | None = None


class Executor(ABC):
    """Works on jobs; all implementations go through one contract suite.

    `threads` is how many a job has, known once the first outcome is there. Sums depend on it in
    their last bits: with the same `threads`, every executor gives the same bytes.
    """

    threads: int

    @abstractmethod
    def run(
        self,
        jobs: Iterable[Job],
        scratch: Path,
        resident: Resident | None = None,
        *,
        count: int | None = None,
    ) -> Generator[Outcome, None, None]:
        """One outcome a job, in the order in which they are finished.

        `jobs` is drawn from as there is room, so that the arrays of few jobs exist at a time.
        `scratch` is a folder for files in between; it is gone when the iteration ends. `count` says
        how many jobs there are: no more workers are started. A job that fails does not stop the
        others, but for a full or read-only disk, which is a PassError.
        """
