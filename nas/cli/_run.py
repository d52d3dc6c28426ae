"""The verb that compiles: every pass in order."""

from __future__ import annotations

from pathlib import Path

import click

from nas.cli._options import COUNT, PATH, config_argument, quiet_option, set_option
from nas.console import Session, known_pass
from nas.errors import ConfigError

_ALONE = "in-process"


@click.command()
@config_argument
@click.option("--output", type=PATH, help="Run directory; default: runs/NAME.")
@set_option
@click.option("--from", "start", metavar="PASS", callback=known_pass, help="First pass to run.")
@click.option("--to", "stop", metavar="PASS", callback=known_pass, help="Last pass to run.")
@click.option("--dry-run", is_flag=True, help="Show the forecast and write nothing.")
@click.option(
    "--executor",
    metavar="NAME",
    default=_ALONE,
    show_default=True,
    help="Who builds and scores: in-process, process:N, ray:N or ray://HOST:PORT.",
)
@click.option(
    "--unit-timeout",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a worker of --executor is taken for hung; default: 3600.",
)
@click.option(
    "--threads",
    metavar="N",
    type=COUNT,
    help="Threads of each unit that --executor works on; default: what there is, shared by its "
    "workers. The same number gives the same bytes with every executor.",
)
@click.option(
    "--continue-on-error",
    is_flag=True,
    help="Leave out blocks that cannot be built or scored, and go on.",
)
@quiet_option
@click.pass_obj
def run(
    session: Session,
    config: Path,
    output: Path | None,
    overrides: tuple[str, ...],
    start: str | None,
    stop: str | None,
    dry_run: bool,
    executor: str,
    unit_timeout: float | None,
    threads: int | None,
    continue_on_error: bool,
) -> None:
    """Compile: run every pass that is not finished yet.

    The same command goes on where an earlier one stopped; finished units are never redone.
    """
    from nas.compiler import compile_run, join_run
    from nas.config import load_config
    from nas.console import print_outcome
    from nas.executors import create_executor
    from nas.run import RunDirectory
    from nas.sharding import join_ranks

    if unit_timeout is not None and executor == _ALONE:
        raise ConfigError(
            f"--unit-timeout is of workers, and --executor {_ALONE} has none; give process:N or "
            f"ray:N, or leave --unit-timeout out"
        )
    workers = create_executor(executor, unit_timeout, threads)
    settings = load_config(config, overrides)
    root = output or Path("runs") / settings.name
    if dry_run:
        from nas.compiler import make_plan
        from nas.readers import plan_tables

        session.emit(make_plan(settings, root), "table", plan_tables)
        session.say(f"would write to {root}")
        return
    with join_ranks() as ranks:
        if not ranks.first:
            join_run(settings, RunDirectory(root), ranks)
            return
        directory = RunDirectory.create(root)
        session.works_on(root, resumable=True)
        outcome = compile_run(
            settings,
            directory,
            session.progress,
            start=start,
            stop=stop,
            executor=workers,
            continue_on_error=continue_on_error,
            ranks=ranks,
        )
    print_outcome(session, root, outcome)
