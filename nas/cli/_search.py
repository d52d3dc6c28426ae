"""The verb `search`: whole students by training-free proxies."""

from __future__ import annotations

from typing import Any

import click

from nas.cli._options import (
    COUNT,
    PATH,
    batch_option,
    format_option,
    inits_option,
    quiet_option,
)
from nas.console import Form, Session


@click.command()
@click.option(
    "--space", metavar="NAME|FILE", required=True, help="Of whole students, as in `nas ls spaces`."
)
@click.option(
    "--proxy",
    "proxies",
    metavar="NAME",
    multiple=True,
    required=True,
    help="As in `nas proxies ls`. Repeatable: several are combined.",
)
@click.option(
    "--combine",
    type=click.Choice(["ranks", "log_ranks", "z_scores"]),
    default="ranks",
    show_default=True,
    help="How several proxies become one score.",
)
@click.option(
    "--teacher",
    metavar="FILE",
    help="Trained weights in safetensors, a folder with a BERT, or cifar_resnet:9-9-9, untrained.",
)
@click.option(
    "--data",
    metavar="FILE",
    type=PATH,
    help="An .npz file with images and labels; of encoders, with tokens.",
)
@click.option(
    "--max",
    "limits",
    metavar="COST=VALUE",
    multiple=True,
    help="Upper limit on params_m, flops_m, depth, latency_ms or a column of --costs. Repeatable.",
)
@click.option(
    "--costs",
    metavar="FILE",
    type=PATH,
    help="CSV with a column architecture and further costs, such as latency_ms of a device.",
)
@click.option(
    "--trials",
    metavar="N",
    type=COUNT,
    help="Architectures to score; default: all of a small space, 1,000 of others.",
)
@click.option(
    "--strategy",
    metavar="NAME",
    help="As in `nas ls strategies`; default: exhaustive where the space is small, else evolution.",
)
@click.option(
    "--journal",
    metavar="FILE",
    type=PATH,
    help="Keep what is found here; a later call goes on from it.",
)
@inits_option
@batch_option
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of initialisations, batches and the strategy.",
)
@click.option(
    "--distill",
    metavar="STEPS",
    type=COUNT,
    help="Distil the winner from the teacher on the pictures.",
)
@click.option(
    "--distill-objective",
    "objectives",
    type=click.Choice(["semantic", "relation"]),
    multiple=True,
    help="DisWOT's metrics as losses, too. Repeatable.",
)
@click.option(
    "--save",
    metavar="FILE",
    type=PATH,
    help="Write the distilled student's weights here, in safetensors.",
)
@quiet_option
@format_option
@click.pass_obj
def search(session: Session, /, form: Form, **options: Any) -> None:
    """Rank whole students by training-free proxies.

    Limits on costs are checked before any proxy runs. Beside the score stands where each student
    would be if its size were all that counted.
    """
    from nas.search import SearchRequest, answer_tables
    from nas.search import search as run_search

    session.emit(run_search(SearchRequest(**options), session.progress), form, answer_tables)
