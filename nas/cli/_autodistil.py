"""The verb `autodistil`: encoders from SuperLMs."""

from __future__ import annotations

from typing import Any

import click

from nas.cli._options import COUNT, PATH, format_option, quiet_option
from nas.console import Form, Session


@click.command()
@click.option(
    "--teacher",
    metavar="SOURCE",
    required=True,
    help="An encoder: a Hugging Face folder, a hub id, or package:NAME/FOLDER.",
)
@click.option(
    "--text",
    metavar="FILE",
    type=PATH,
    required=True,
    help="Text to train on; its end is held out. A folder gives its *.txt and *.md files.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=PATH,
    required=True,
    help="SuperLMs, scores and the winner; a later call goes on from it.",
)
@click.option(
    "--space",
    "spaces",
    metavar="NAME|FILE",
    multiple=True,
    help="A sub-space of encoders. Repeatable; default: three for a teacher of known size.",
)
@click.option(
    "--sub-spaces",
    metavar="K",
    type=COUNT,
    help="SuperLMs: one a sub-space (default), or 1 over all of them.",
)
@click.option(
    "--steps",
    metavar="N",
    type=COUNT,
    default=2000,
    show_default=True,
    help="Of training each SuperLM.",
)
@click.option(
    "--batch",
    metavar="N",
    type=COUNT,
    default=16,
    show_default=True,
    help="Texts a step.",
)
@click.option(
    "--tokens",
    metavar="N",
    type=click.IntRange(min=3),
    default=64,
    show_default=True,
    help="Of a text, in training and in timing.",
)
@click.option(
    "--learning-rate",
    metavar="R",
    type=click.FloatRange(min=0, min_open=True),
    default=5e-4,
    show_default=True,
    help="The highest; it rises over a tenth of the steps, then falls.",
)
@click.option(
    "--relation-heads",
    metavar="N",
    type=COUNT,
    default=12,
    show_default=True,
    help="Parts of the relations, whatever the number of heads.",
)
@click.option(
    "--similarity-weight",
    metavar="W",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Of the cosines of pairs of texts in the loss; 0 is AutoDistil's own objective.",
)
@click.option(
    "--max",
    "limits",
    metavar="COST=VALUE",
    multiple=True,
    help="Upper limit on params_m, flops_m or the measured latency_ms. Repeatable.",
)
@click.option(
    "--speedup",
    metavar="X",
    type=click.FloatRange(min=0, min_open=True),
    help="Least measured speed-up over the teacher in ONNX Runtime.",
)
@click.option(
    "--timed-batch",
    metavar="N",
    type=COUNT,
    default=8,
    show_default=True,
    help="Texts of a timed pass.",
)
@click.option("--threads", metavar="N", type=COUNT, help="Of a timed pass; default: cores.")
@click.option(
    "--pairs",
    metavar="FILE",
    type=PATH,
    help="Search by the similarities of these text pairs (JSON lines with a, b), "
    "not by the held-out loss.",
)
@click.option(
    "--trials",
    metavar="N",
    type=COUNT,
    help="Students to score of each sub-space; default: all within the limits.",
)
@click.option(
    "--finish",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Steps that train the winner alone afterwards.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of batches, subnets and trials.",
)
@click.option("--device", default="cpu", show_default=True, help="Where to train, such as cuda.")
@quiet_option
@format_option
@click.pass_obj
def autodistil(session: Session, /, form: Form, **options: Any) -> None:
    """Find a smaller encoder in SuperLMs distilled from a teacher.

    One SuperLM is trained for each sub-space of cost; its students share its weights and are
    searched under limits without training. The winner is written as a plain BERT and as ONNX.
    """
    from nas.supernet import AutoDistilRequest, autodistil_tables
    from nas.supernet import autodistil as run_autodistil

    answer = run_autodistil(AutoDistilRequest(**options), session.progress)
    session.emit(answer, form, autodistil_tables)
