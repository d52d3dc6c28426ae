"""Verbs that work on one of two things, each with options of its own."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.core import ParameterSource


def one_source(context: click.Context, **sources: Sequence[str]) -> None:
    """Require exactly one of the parameters `sources`, and no option that belongs to another.

    Raises click.UsageError.
    """
    shown = {p.name: _shown(p) for p in context.command.params if p.name is not None}
    given = [name for name in sources if _given(context, name)]
    if len(given) != 1:
        raise click.UsageError(
            f"give one of {' and '.join(shown[name] for name in sources)}, not "
            + ("both" if given else "neither"),
            context,
        )
    for other in sources.keys() - set(given):
        for name in sources[other]:
            if _given(context, name):
                raise click.UsageError(f"{shown[name]} goes with {shown[other]} only", context)


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def _shown(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.make_metavar(click.Context(click.Command(None))).strip("[]")
    return max(parameter.opts, key=len)
