"""How the command line looks and ends: output, progress, errors as text and exit codes."""

from nas.console._group import NasGroup, PassName
from nas.console._plain import PlainProgress
from nas.console._results import print_outcome, solution_lines
from nas.console._session import Form, Session

__all__ = [
    "Form",
    "NasGroup",
    "PassName",
    "PlainProgress",
    "Session",
    "print_outcome",
    "solution_lines",
]
