"""One call of the command line: where results and progress go, and what to say when it ends."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from nas.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Form = Literal["table", "json", "yaml"]
Value = TypeVar("Value")
_LOG_WIDTH = 160
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a file's text could steer a terminal with; a message quotes files."""


@dataclass
class Session:
    """Results to stdout, progress and messages to stderr.

    `arguments` are those of this call. `run_root` is set once a command works on a run; `resumable`
    says that the same command would go on where this one stops.
    """

    arguments: Sequence[str] = ()
    quiet: bool = False
    run_root: Path | None = None
    resumable: bool = field(default=False)

    @cached_property
    def out(self) -> Console:
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        return _console(stderr=True)

    @cached_property
    def progress(self) -> Progress:
        """Bars on a terminal, plain lines elsewhere, nothing when quiet."""
        if self.quiet:
            return SilentProgress()
        if sys.stderr.isatty() and not self.err.is_dumb_terminal:
            from nas.console._bars import BarProgress

            return BarProgress(self.err)
        from nas.console._plain import PlainProgress

        return PlainProgress(self.note)

    def works_on(self, root: Path, *, resumable: bool) -> None:
        """Remember the run, for the messages of a call that fails or is interrupted."""
        self.run_root, self.resumable = root, resumable

    def say(self, text: str) -> None:
        """A line of the result."""
        self.out.print(text, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line beside the result."""
        if not self.quiet:
            self.err.print(text, soft_wrap=True)

    def warn(self, text: str, label: str = "error") -> None:
        """A line that is never left out, opened by `label` in red."""
        from rich.text import Text

        said = _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)
        self.err.print(Text.assemble((f"{label}: ", "bold red"), said), soft_wrap=True)

    def show(self, parts: Iterable[RenderableType]) -> None:
        """Tables and lines of the result, a blank line before each table but the first."""
        for i, part in enumerate(parts):
            line = isinstance(part, str)
            if i and not line:
                self.say("")
            if line or self.out.is_terminal:
                self.out.print(part, soft_wrap=line)
            else:
                self.say(self._unpadded(part))

    def _unpadded(self, table: RenderableType) -> str:
        """As text without the spaces that fill up the last column."""
        with self.out.capture() as captured:
            self.out.print(table)
        return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))

    def emit(
        self, value: Value, form: Form, tables: Callable[[Value], Iterable[RenderableType]]
    ) -> None:
        """`value` (pydantic models and plain data) as JSON or YAML, or the tables that show it."""
        if form == "table":
            self.show(tables(value))
            return
        from pydantic_core import to_jsonable_python

        data = to_jsonable_python(value)
        if form == "json":
            text = json.dumps(data, indent=2, ensure_ascii=False)
        else:
            import yaml

            text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip("\n")
        self.say(text)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # Tables in a file or a pipe are not squeezed into 80 columns.
    wide = None if stream.isatty() or "COLUMNS" in os.environ else _LOG_WIDTH
    return Console(stderr=stderr, width=wide, markup=False, highlight=False, emoji=False)
