"""The verbs of training-free proxies."""

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


@click.group()
def proxies() -> None:
    """List training-free proxies, or see how well they rank.

    nas proxies ls, nas proxies bench TABLE.csv --scores SCORES.jsonl --size params
    """


@proxies.command("ls")
@format_option
@click.pass_obj
def list_proxies(session: Session, form: Form) -> None:
    """Every proxy with what it needs, its dearest pass and its source."""
    from nas.proxies import describe_proxies, proxy_tables

    session.emit(describe_proxies(), form, proxy_tables)


@proxies.command("bench")
@click.argument("table", type=PATH)
@click.option(
    "--accuracy", metavar="COLUMN", default="accuracy", show_default=True, help="Of the TABLE."
)
@click.option(
    "--architecture",
    metavar="COLUMN",
    default="architecture",
    show_default=True,
    help="Names of the networks.",
)
@click.option("--group", metavar="COLUMN", help="Networks of one group compute the same.")
@click.option(
    "--size",
    "sizes",
    metavar="COLUMN",
    multiple=True,
    help="A size baseline; gains are over the first. Repeatable; of a --space they are counted.",
)
@click.option(
    "--scores",
    metavar="FILE",
    type=PATH,
    multiple=True,
    help="Scores: a log of this verb, a journal of nas search, or a CSV file. Repeatable.",
)
@click.option(
    "--combine",
    "combinations",
    metavar="A+B",
    multiple=True,
    help="Also judge these proxies together, on ranks; log_ranks:A+B, z_scores:A+B. Repeatable.",
)
@click.option(
    "--choose",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Choose the best combination on this share of the groups and judge on the rest.",
)
@click.option("--space", metavar="NAME|FILE", help="Build and score the networks of this space.")
@click.option("--proxy", "proxies", metavar="NAME", multiple=True, help="Score by it. Repeatable.")
@click.option(
    "--data",
    metavar="FILE",
    type=PATH,
    help="An .npz file with images and labels.",
)
@click.option(
    "--teacher", metavar="FILE", help="Trained weights, or cifar_resnet:9-9-9, untrained."
)
@click.option("--other-teacher", metavar="FILE", help="The teacher of that control.")
@click.option(
    "--controls", is_flag=True, help="Also score on noise, random labels and the other teacher."
)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=3),
    help="Draw N networks, no two of one group; default: all.",
)
@inits_option
@batch_option
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Of all draws.")
@click.option(
    "--log",
    metavar="FILE",
    type=PATH,
    help="Keep the scores here; a later call goes on from it.",
)
@click.option(
    "--within",
    metavar="SHARE",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    help="Pairs whose sizes differ by no more are matched.",
)
@click.option(
    "--top",
    metavar="K",
    type=COUNT,
    multiple=True,
    default=(1, 10),
    show_default=True,
    help="Regret of the best among the K highest scores. Repeatable.",
)
@click.option(
    "--resamples",
    metavar="B",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Of the bootstrap; 0: no intervals.",
)
@quiet_option
@format_option
@click.pass_obj
def bench_proxies(session: Session, /, form: Form, **options: Any) -> None:
    """How well proxies order networks of known accuracy.

    TABLE is a CSV file with a line for each network. Size baselines stand beside every proxy:
    partial correlations and size-matched pairs say what a proxy knows beyond size.
    """
    from nas.proxies import verdict_tables
    from nas.proxies.bench import BenchRequest, bench

    verdict = bench(BenchRequest(**options), session.progress)
    session.emit(verdict, form, verdict_tables)
