"""Verbs that read a run and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli._options import PATH, format_option, run_argument
from nas.console import Form, Session
from nas.errors import ConfigError

if TYPE_CHECKING:
    from nas.ir import Phase


@click.command()
@run_argument
@format_option
@click.pass_obj
def status(session: Session, run: Path, form: Form) -> None:
    """How far a run is."""
    from nas.readers import open_run, read_status, status_tables

    session.emit(read_status(open_run(run)), form, status_tables)


@click.command()
@click.argument("what", metavar="RUN|hardware|space")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--slot", metavar="ID", help="One slot of the run, such as layers.7.ffn.")
@click.option("--layers", is_flag=True, help="Where the time of teacher and student goes.")
@click.option(
    "--timings",
    type=PATH,
    help="The same of the student from a profile of ONNX Runtime or TensorRT made elsewhere.",
)
@click.option(
    "--layer-info",
    type=PATH,
    help="With --timings, TensorRT's layer information of the engine.",
)
@click.option(
    "--phase",
    type=click.Choice(["prefill", "decode"]),
    help="With --timings, what was run; default: prefill.",
)
@format_option
@click.pass_obj
def show(
    session: Session,
    what: str,
    name: str | None,
    slot: str | None,
    layers: bool,
    timings: Path | None,
    layer_info: Path | None,
    phase: Phase | None,
    form: Form,
) -> None:
    """The result of a RUN, or a hardware profile or search space.

    nas show runs/demo [--slot layers.7.ffn | --layers], nas show hardware rtx4090, nas show space
    decoder
    """
    from nas.readers import layers_of, layers_tables, open_run, show_tables, shown

    if timings is None:
        for option, given in (("--layer-info", layer_info), ("--phase", phase)):
            if given is not None:
                raise ConfigError(f"{option} is of a profile made elsewhere; give --timings, too")
    if layers or timings is not None:
        option = "--timings" if timings is not None else "--layers"
        if slot is not None:
            raise ConfigError(f"--slot and {option}: give one of them")
        if name is not None:
            raise ConfigError(f"show {what} {name}: {option} is of a run, which takes no NAME")
        found = layers_of(open_run(Path(what)), timings, layer_info, phase or "prefill")
        session.emit(found, form, layers_tables)
    else:
        session.emit(shown(what, name, slot), form, show_tables)


@click.command()
@click.argument("left", metavar="RUN", type=PATH)
@click.argument("right", metavar="RUN", type=PATH)
@format_option
@click.pass_obj
def diff(session: Session, left: Path, right: Path, form: Form) -> None:
    """How two runs differ: configuration, results, chosen blocks."""
    from nas.readers import diff_runs, diff_tables, open_run

    session.emit(diff_runs(open_run(left), open_run(right)), form, diff_tables)
