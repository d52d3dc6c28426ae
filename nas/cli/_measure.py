"""The verb `measure`: here, on another machine, or not at all by a fitted roofline."""

from __future__ import annotations

from pathlib import Path

import click

from nas.cli._options import PATH, format_option, quiet_option, run_argument, set_option
from nas.cli._passes import one_pass
from nas.console import Form, Session


@click.command()
@run_argument
@click.option(
    "--pack",
    "folder",
    metavar="FOLDER",
    type=PATH,
    help="Measure nothing; write a folder that measures the blocks on another machine.",
)
@click.option(
    "--calibrate",
    "tables",
    metavar="TABLE",
    type=PATH,
    multiple=True,
    help="Measure nothing; fit the roofline of the target's hardware to a measured table. "
    "Repeatable: tables may differ in batch and prompt.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=PATH,
    help="Where --calibrate writes; default: HARDWARE-calibration.json.",
)
@set_option
@quiet_option
@format_option
@click.pass_context
def measure(
    context: click.Context,
    run: Path,
    folder: Path | None,
    tables: tuple[Path, ...],
    output: Path | None,
    overrides: tuple[str, ...],
    form: Form,
) -> None:
    """Measure every distinct block on the target.

    On another machine: --pack writes a folder to carry there, which brings back a table for
    target.meter=table; --calibrate fits target.meter=roofline to such tables.
    """
    if folder is not None and tables:
        raise click.UsageError("give one of --pack and --calibrate, not both")
    if output is not None and not tables:
        raise click.UsageError("--output goes with --calibrate only")
    session: Session = context.obj
    if folder is not None:
        _pack(session, run, overrides, folder)
    elif tables:
        _calibrate(session, run, overrides, tables, output, form)
    else:
        one_pass(session, run, overrides, "measure")


def _pack(session: Session, run: Path, overrides: tuple[str, ...], folder: Path) -> None:
    from nas.compiler import pack_blocks
    from nas.readers import open_run, read_config

    directory = open_run(run)
    config = read_config(directory, overrides)
    pack = pack_blocks(config, directory, folder, session.progress)
    session.say(f"{folder}: {len(pack.runs)} latencies to take; run.py there writes table.csv")


def _calibrate(
    session: Session,
    run: Path,
    overrides: tuple[str, ...],
    tables: tuple[Path, ...],
    output: Path | None,
    form: Form,
) -> None:
    from nas.compiler import calibrate_target
    from nas.readers import calibration_tables, open_run, read_config

    directory = open_run(run)
    config = read_config(directory, overrides)
    found, path = calibrate_target(config, directory, tables, output)
    session.emit(found, form, calibration_tables)
    session.note(f"wrote {path}; set target.meter=roofline and target.calibration={path}")
