"""Every error that nas raises on purpose.

    NasError                  anything a user can act on; exit code 1
    |-- ConfigError           a wrong option, file or value; exit code 2
    |-- InfeasibleError       no student meets the budgets; exit code 3
    |-- CapabilityError       something optional is missing here; exit code 4
    |-- ArtifactError         a file of the run is torn, altered or foreign; exit code 1
    `-- PassError             a pass could not do its work; exit code 1

A message says what is wrong, where (`config.yaml: budgets.latency_ms`) and what to do next. Only
the command line turns an error into text and an exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.ir import Problem
    from nas.solvers import Infeasibility


class NasError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class ConfigError(NasError):
    """The configuration or a command-line value is wrong."""

    exit_code = 2


class InfeasibleError(NasError):
    """No architecture of the space meets all budgets.

    `tightest` holds, per budget, the tightest value that is feasible alone; `problem` and `found`,
    where a solver says so, what was to be solved and its diagnosis.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        tightest: Mapping[str, float] | None = None,
        problem: Problem | None = None,
        found: Infeasibility | None = None,
    ) -> None:
        super().__init__(message)
        self.tightest = dict(tightest or {})
        self.problem, self.found = problem, found


class CapabilityError(NasError):
    """An optional package, device or feature is not available; the message says how to add it."""

    exit_code = 4


class ArtifactError(NasError):
    """An artefact on disk is missing, torn, altered or of another format version."""


class PassError(NasError):
    """A pass failed on valid input."""
