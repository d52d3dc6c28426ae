"""Verbs before a run: what to choose from, and what a configuration comes to."""

from __future__ import annotations

from pathlib import Path

import click

from nas.cli._options import PATH, config_argument, format_option, set_option
from nas.console import Form, Session

LISTED = ("spaces", "hardware", "solvers", "strategies", "meters", "passes", "runs")


@click.command()
@click.argument("file", type=PATH, default=Path("nas.yaml"))
@click.pass_obj
def init(session: Session, file: Path) -> None:
    """Write a commented configuration to FILE (default: nas.yaml)."""
    from nas.starter import write_starter

    write_starter(file)
    session.say(f"wrote {file}; next: nas validate {file}")


@click.command("ls")
@click.argument("kind", metavar="[KIND]", type=click.Choice(LISTED), required=False)
@click.option(
    "--runs",
    "folder",
    type=PATH,
    default=Path("runs"),
    show_default=True,
    help="Folder that holds the runs.",
)
@format_option
@click.pass_obj
def list_(session: Session, kind: str | None, folder: Path, form: Form) -> None:
    """List what there is to choose from, of one KIND or of all.

    KIND: spaces, hardware, solvers, strategies, meters, passes or runs.
    """
    from nas.readers import list_entries, listing_tables

    session.emit(list_entries([kind] if kind else LISTED, folder), form, listing_tables)


@click.command()
@click.option("--config", type=PATH, help="Check what this configuration needs, too.")
@set_option
@format_option
@click.pass_obj
def doctor(session: Session, config: Path | None, overrides: tuple[str, ...], form: Form) -> None:
    """What this machine can do, and what is missing.

    Exits with 4 only if something is missing that the given --config needs.
    """
    from nas.config import load_config
    from nas.doctor import doctor_tables, examine, require_all

    checks = examine(load_config(config, overrides) if config else None)
    session.emit(checks, form, doctor_tables)
    require_all(checks)


@click.command()
@click.argument("configs", metavar="CONFIG...", type=PATH, nargs=-1, required=True)
@set_option
@format_option
@click.pass_context
def validate(
    context: click.Context, configs: tuple[Path, ...], overrides: tuple[str, ...], form: Form
) -> None:
    """Check configurations; no weights, no network.

    Exits with the code of the first error.
    """
    from nas.readers import check_config, verdict_tables

    verdicts = [check_config(path, overrides) for path in configs]
    session: Session = context.obj
    session.emit(verdicts, form, verdict_tables)
    context.exit(next((v.exit_code for v in verdicts if v.exit_code), 0))


@click.command()
@config_argument
@set_option
@format_option
@click.pass_obj
def plan(session: Session, config: Path, overrides: tuple[str, ...], form: Form) -> None:
    """Forecast work, disk, memory and time.

    Whether the budgets can be met is known once blocks are measured: `nas run CONFIG --to measure`.
    """
    from nas.compiler import make_plan
    from nas.config import load_config
    from nas.readers import plan_tables

    session.emit(make_plan(load_config(config, overrides)), form, plan_tables)
