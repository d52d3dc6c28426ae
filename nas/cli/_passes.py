"""Verbs that run one pass of a run."""

from __future__ import annotations

from pathlib import Path

import click

from nas.cli._options import COUNT, quiet_option, run_argument, set_option
from nas.console import Session

# Named here, not read from nas.compiler, so that `--help` stays quick; a test compares the two.
PASS_VERBS = {
    "space": "list the candidates of every slot",
    "prune": "leave out what is not worth training",
    "build": "make every candidate from the teacher",
    "refine": "move to where the realised KL is lower",
    "assemble": "put student and baselines together",
    "distill": "global distillation of student and baselines",
    "export": "write and check the files",
    "profile": "measure the exported networks end to end",
    "report": "write summary.json and report.html",
}


def one_pass(session: Session, run: Path, overrides: tuple[str, ...], name: str) -> None:
    from nas.compiler import compile_run, join_run
    from nas.console import print_outcome
    from nas.readers import open_run, read_config
    from nas.sharding import join_ranks

    directory = open_run(run)
    config = read_config(directory, overrides)
    with join_ranks() as ranks:
        if not ranks.first:
            join_run(config, directory, ranks)
            return
        session.works_on(run, resumable=True)
        outcome = compile_run(
            config, directory, session.progress, start=name, stop=name, ranks=ranks
        )
    print_outcome(session, run, outcome)


def _plain(name: str, title: str) -> click.Command:
    """The verb of a pass that takes nothing but the run."""

    @click.command(name, help=f"{title[0].upper()}{title[1:]}.")
    @run_argument
    @set_option
    @quiet_option
    @click.pass_obj
    def verb(session: Session, run: Path, overrides: tuple[str, ...]) -> None:
        one_pass(session, run, overrides, name)

    return verb


PLAIN_VERBS = tuple(_plain(name, title) for name, title in PASS_VERBS.items())


@click.command()
@run_argument
@click.option(
    "--until-certain",
    is_flag=True,
    help="Stop scoring what can no longer be chosen under the run's budgets.",
)
@set_option
@quiet_option
@click.pass_obj
def score(session: Session, run: Path, until_certain: bool, overrides: tuple[str, ...]) -> None:
    """What swapping in each candidate costs."""
    if until_certain:
        overrides = (*overrides, "score.until_certain=true")
    one_pass(session, run, overrides, "score")


@click.command()
@run_argument
@click.option(
    "--task",
    "tasks",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True),
    multiple=True,
    help="JSONL file of multiple-choice or cloze questions. Repeatable.",
)
@click.option(
    "--lm-eval",
    "lm_eval",
    metavar="NAME",
    multiple=True,
    help="Task of lm-evaluation-harness, such as hellaswag. Repeatable.",
)
@click.option("--limit", type=COUNT, help="At most this many questions a task.")
@set_option
@quiet_option
@click.pass_obj
def evaluate(
    session: Session,
    run: Path,
    tasks: tuple[Path, ...],
    lm_eval: tuple[str, ...],
    limit: int | None,
    overrides: tuple[str, ...],
) -> None:
    """Quality of the student beside the teacher.

    --task adds task files, --lm-eval tasks of lm-evaluation-harness.
    """
    from nas.compiler import compile_run
    from nas.console import print_outcome
    from nas.readers import open_run, with_tasks

    directory = open_run(run)
    config = with_tasks(directory, overrides, files=tasks, lm_eval=lm_eval, limit=limit)
    session.works_on(run, resumable=True)
    outcome = compile_run(config, directory, session.progress, start="evaluate", stop="report")
    print_outcome(session, run, outcome)
