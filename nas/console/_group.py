"""The click group: verbs in sections, did-you-mean, and one guard around every call."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from nas.console._guard import guarded
from nas.console._session import Session


class NasGroup(click.Group):
    """A group whose `sections` (title -> verbs) order the help page."""

    def __init__(
        self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = dict(sections or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        listed = [name for names in self.sections.values() for name in names]
        return [*listed, *(name for name in self.commands if name not in listed)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max((len(name) for name in self.commands), default=0)
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (f"{name:<{widest}}", self.commands[name].get_short_help_str(90))
                        for name in names
                    ]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(
                f"there is no verb {name!r}{_did_you_mean(name, self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = "nas", **extra: Any
    ) -> None:
        """Run a command line and exit with its code (see `nas.errors`)."""
        # Bars of other packages would break into ours.
        os.environ.setdefault("TQDM_DISABLE", "1")
        arguments = list(sys.argv[1:] if args is None else args)
        session = Session(arguments=arguments)
        extra |= {"standalone_mode": False, "obj": session}
        call = super().main
        sys.exit(guarded(lambda: call(arguments, prog_name, **extra), session))


def known_pass(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Callback of an option that names a pass."""
    from nas.compiler import PASSES

    names = [step.name for step in PASSES]
    if value is not None and value not in names:
        hint = _did_you_mean(value, names) or f"; the passes are {', '.join(names)}"
        raise click.BadParameter(f"no pass is named {value!r}{hint}")
    return value


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
