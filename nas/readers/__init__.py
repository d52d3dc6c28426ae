"""Readers: what is there, how far a run is, what it found, how two runs differ. None writes.

Each gives plain data and, apart from it, the tables that show it.
"""

from nas.readers._diff import Change, RunDiff, diff_runs, diff_tables
from nas.readers._layers import layers_of, layers_tables
from nas.readers._listing import KINDS, Entry, list_entries, listing_tables
from nas.readers._plan import plan_tables
from nas.readers._runs import open_run, read_config, with_tasks
from nas.readers._show import (
    Shown,
    calibration_tables,
    result_tables,
    show_tables,
    shown,
    summary_of,
)
from nas.readers._status import PassStatus, RunStatus, read_status, status_tables
from nas.readers._validate import Finding, Verdict, check_config, verdict_tables

__all__ = [
    "KINDS",
    "Change",
    "Entry",
    "Finding",
    "PassStatus",
    "RunDiff",
    "RunStatus",
    "Shown",
    "Verdict",
    "calibration_tables",
    "check_config",
    "diff_runs",
    "diff_tables",
    "layers_of",
    "layers_tables",
    "list_entries",
    "listing_tables",
    "open_run",
    "plan_tables",
    "read_config",
    "read_status",
    "result_tables",
    "show_tables",
    "shown",
    "status_tables",
    "summary_of",
    "verdict_tables",
    "with_tasks",
]
