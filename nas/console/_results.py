"""What a call of the compiler did, as lines and tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nas._words import duration, number
from nas.console._session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nas.compiler import Outcome
    from nas.ir import Solution
    from nas.uncertainty import JudgedSolution


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


def solution_lines(solution: Solution) -> Iterable[str]:
    """Certificate, costs and slack, and how much of the teacher is kept."""
    gap = "" if solution.gap is None else f", gap {number(100 * solution.gap)} %"
    loss = "unknown" if solution.objective is None else f"{number(solution.objective)} nats"
    took = f"{solution.solver} in {duration(solution.seconds)}"
    yield f"{solution.status}: summed loss {loss}{gap}; {took}"
    yield from (f"  {name}: {number(value)}" for name, value in solution.costs.items())
    yield from (f"  slack of {name}: {number(value)}" for name, value in solution.slack.items())
    kept = sum(variant == "teacher" for variant in solution.choice.values())
    yield f"  {kept} of {len(solution.choice)} slots keep the teacher's block"


def judged_lines(solution: JudgedSolution) -> Iterable[RenderableType]:
    """The solution, and what is certain in it."""
    from nas.uncertainty import uncertainty_tables

    yield from solution_lines(solution)
    yield from uncertainty_tables(solution.uncertainty)


def _units(count: int) -> str:
    return f"{count} unit{'' if count == 1 else 's'}"
