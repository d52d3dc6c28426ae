"""How the command line looks and ends: output, progress, errors as text and exit codes."""

from nas.console._group import NasGroup, known_pass
from nas.console._plain import PlainProgress
from nas.console._results import print_outcome
from nas.console._session import Form, Session
from nas.console._sources import one_source

__all__ = [
    "Form",
    "NasGroup",
    "PlainProgress",
    "Session",
    "known_pass",
    "one_source",
    "print_outcome",
]
