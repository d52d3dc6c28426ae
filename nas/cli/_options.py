"""Arguments and options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import click

from nas.console import Session

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)


def config_argument(command: Command) -> Command:
    return click.argument("config", type=PATH)(command)


def run_argument(command: Command) -> Command:
    return click.argument("run", type=PATH)(command)


def set_option(command: Command) -> Command:
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override a key of the configuration, as in budgets.latency_ms=12. Repeatable.",
    )(command)


def format_option(command: Command) -> Command:
    return click.option(
        "-f",
        "--format",
        "form",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="How the result is written to stdout.",
    )(command)


def quiet_option(command: Command) -> Command:
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_be_quiet,
        help="No progress on stderr; errors remain.",
    )(command)


def inits_option(command: Command) -> Command:
    return click.option(
        "--inits",
        metavar="N",
        type=COUNT,
        default=1,
        show_default=True,
        help="Initialisations to average over, each on its own batch.",
    )(command)


def batch_option(command: Command) -> Command:
    return click.option(
        "--batch",
        metavar="N",
        type=COUNT,
        default=64,
        show_default=True,
        help="Inputs in a batch.",
    )(command)


def version_option(command: Command) -> Command:
    return click.option(
        "--version",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_show_version,
        help="Show the version and exit.",
    )(command)


def _be_quiet(context: click.Context, _: click.Parameter, quiet: bool) -> None:
    session = context.find_object(Session)
    if session is not None and quiet:
        session.quiet = True


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"nas {_version()}")
        context.exit()


def _version() -> str:
    try:
        return metadata.version("nas-compiler")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
