"""The verb `solve`: of a run or of a library that anyone made."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli._options import COUNT, PATH, format_option, quiet_option, set_option
from nas.console import Form, Session, one_source

if TYPE_CHECKING:
    from nas.libraries import Answers, Diverse, Query
    from nas.uncertainty import Scrutiny

LIBRARY_OPTIONS = (
    *("objective", "most", "least", "solutions"),
    *("differ", "diverse", "time_limit", "solver", "noise"),
)


@click.command()
@click.argument("run", metavar="[RUN]", type=PATH, required=False)
@set_option
@click.option(
    "--library",
    metavar="FILE",
    type=PATH,
    help="Solve this block library (Puzzle JSON, its CSV form, a problem.json), not a run.",
)
@click.option(
    "--objective", metavar="PATH", help="Column of the library to minimise: metrics.kl_div."
)
@click.option(
    "--max",
    "most",
    metavar="PATH=VALUE",
    multiple=True,
    help="Upper limit on the sum of a column: stats.memory_mib=80000. Repeatable.",
)
@click.option(
    "--min",
    "least",
    metavar="PATH=VALUE",
    multiple=True,
    help="Lower limit on the sum of a column. Repeatable.",
)
@click.option("--solutions", metavar="K", type=COUNT, help="Up to K solutions.")
@click.option(
    "--differ",
    metavar="N",
    type=COUNT,
    help="Slots in which any two of the solutions differ, at least; default: 1.",
)
@click.option(
    "--diverse",
    type=click.Choice(["greedily", "jointly"]),
    help="One solution after the other, each the best that is left (default), or all at once with "
    "the least sum.",
)
@click.option(
    "--time-limit", metavar="S", type=float, help="Seconds for each solution; default: no limit."
)
@click.option(
    "--solver", metavar="NAME", default="mip", show_default=True, help="As in `nas ls solvers`."
)
@click.option(
    "--sweep",
    "sweeps",
    metavar="PATH=LOW:HIGH:COUNT",
    multiple=True,
    help="The front over COUNT limits from LOW to HIGH: of a budget of the RUN, or upper limits of "
    "a column of the library. Given twice: over every pair, with a heat map.",
)
@click.option(
    "--confidence",
    metavar="SHARE",
    type=float,
    help="Also say what is certain at this confidence, such as 0.9, and what loss to expect; of "
    "several answers, the interval of each and of what it loses more than the first.",
)
@click.option(
    "--noise",
    metavar="SHARE",
    type=float,
    help="Standard deviation of a library's losses, relative: 0.05. For files without scores.",
)
@click.option(
    "--resamples",
    metavar="B",
    type=click.IntRange(min=2),
    help="Solves on losses drawn anew, for --confidence; default: 200.",
)
@quiet_option
@format_option
@click.pass_context
def solve(
    context: click.Context,
    run: Path | None,
    overrides: tuple[str, ...],
    library: Path | None,
    objective: str | None,
    most: tuple[str, ...],
    least: tuple[str, ...],
    solutions: int | None,
    differ: int | None,
    diverse: Diverse | None,
    time_limit: float | None,
    solver: str,
    sweeps: tuple[str, ...],
    confidence: float | None,
    noise: float | None,
    resamples: int | None,
    form: Form,
) -> None:
    """Pick one block a slot, of a RUN or of a library.

    With a RUN, --set tries other budgets; takes seconds and writes to solutions/ only, with --sweep
    nothing at all. With --library FILE, the options name its columns and nothing is written.
    """
    one_source(context, run=("overrides",), library=LIBRARY_OPTIONS)
    session: Session = context.obj
    if resamples is not None and (sweeps or solutions is not None):
        raise click.UsageError("--resamples judges one answer; leave --solutions and --sweep out")
    scrutiny = _scrutiny(confidence, resamples)
    if library is not None:
        from nas.libraries import Query

        query = Query.parse(
            objective=objective,
            most=most,
            least=least,
            solutions=solutions,
            differ=differ,
            diverse=diverse,
            time_limit_s=time_limit,
            solver=solver,
            sweeps=sweeps,
            scrutiny=scrutiny,
            noise=noise,
        )
        _solve_library(session, library, query, form)
    elif run is not None and sweeps:
        _sweep_run(session, run, overrides, sweeps, scrutiny, form)
    elif run is not None:
        _solve_run(session, run, overrides, scrutiny, form)


def _scrutiny(confidence: float | None, resamples: int | None) -> Scrutiny | None:
    if confidence is None:
        if resamples is not None:
            raise click.UsageError("--resamples goes with --confidence only")
        return None
    from nas.uncertainty import Scrutiny

    return Scrutiny(confidence) if resamples is None else Scrutiny(confidence, resamples)


def _solve_library(session: Session, path: Path, query: Query, form: Form) -> None:
    from nas.libraries import read_library, solve_library

    answers = solve_library(read_library(path), query, session.progress)
    _show_answers(session, answers, form)


def _sweep_run(
    session: Session,
    run: Path,
    overrides: tuple[str, ...],
    sweeps: tuple[str, ...],
    scrutiny: Scrutiny | None,
    form: Form,
) -> None:
    from nas.compiler import sweep_again
    from nas.libraries import Sweep
    from nas.readers import open_run, read_config

    asked = [Sweep.parse(text) for text in sweeps]
    directory = open_run(run)
    config = read_config(directory, overrides)
    session.works_on(run, resumable=True)
    answers = sweep_again(config, directory, asked, session.progress, scrutiny)
    _show_answers(session, answers, form)


def _show_answers(session: Session, answers: Answers, form: Form) -> None:
    from nas.libraries import answer_tables

    session.emit(answers.found, form, partial(answer_tables, plane=answers.plane))
    for note in answers.notes:
        session.note(f"note: {note}")
    if answers.refusal is not None:
        raise answers.refusal


def _solve_run(
    session: Session,
    run: Path,
    overrides: tuple[str, ...],
    scrutiny: Scrutiny | None,
    form: Form,
) -> None:
    from nas.compiler import answer_again
    from nas.readers import open_run, read_config

    directory = open_run(run)
    config = read_config(directory, overrides)
    session.works_on(run, resumable=True)
    _show_answers(session, answer_again(config, directory, scrutiny, session.progress), form)
