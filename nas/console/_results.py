"""What a call of the compiler did, as lines and tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas._words import duration
from nas.console._session import Session

if TYPE_CHECKING:
    from nas.compiler import Outcome


def print_outcome(session: Session, root: Path, outcome: Outcome) -> None:
    """What was made; the result's tables where this call got as far as the report."""
    made, reused = sum(outcome.done.values()), sum(outcome.reused.values())
    if outcome.nothing_to_do:
        session.say(f"{root}: nothing to be done, {_units(reused)} there already")
    else:
        seconds = duration(sum(outcome.seconds.values()))
        session.note(f"{root}: {_units(made)} made, {reused} reused, in {seconds}")
    if outcome.failed:
        session.warn(
            f"{_units(len(outcome.failed))} left out: {', '.join(outcome.failed[:6])}"
            f"{', ...' if len(outcome.failed) > 6 else ''}; the same command tries again",
            "warning",
        )
    if "report" not in outcome.seconds or outcome.summary_path is None:
        return
    from nas.readers import result_tables
    from nas.report import load_summary

    session.show(result_tables(load_summary(outcome.summary_path)))
    if outcome.report_path is not None:
        session.say(f"report: {outcome.report_path}")


def _units(count: int) -> str:
    return f"{count} unit{'' if count == 1 else 's'}"
