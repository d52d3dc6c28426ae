"""The command line: parse, call, print. What the verbs do stands in the rest of nas/."""

from __future__ import annotations

import click

from nas.cli._autodistil import autodistil
from nas.cli._measure import measure
from nas.cli._options import quiet_option, version_option
from nas.cli._passes import PLAIN_VERBS, evaluate, score
from nas.cli._proxies import proxies
from nas.cli._readers import diff, show, status
from nas.cli._run import run
from nas.cli._search import search
from nas.cli._solve import solve
from nas.cli._start import doctor, init, list_, plan, validate
from nas.console import NasGroup

__all__ = ["main"]

SECTIONS = {
    "Start": ("init", "ls", "doctor", "validate", "plan", "run"),
    "Read a run": ("status", "show", "diff"),
    "Whole students": ("search", "proxies", "autodistil"),
    "One pass of a run": (
        *("space", "measure", "prune", "build", "score", "solve", "refine"),
        *("assemble", "distill", "export", "profile", "evaluate", "report"),
    ),
}
VERBS = (
    *(init, list_, doctor, validate, plan, run),
    *(status, show, diff),
    *(search, proxies, autodistil),
    *(measure, score, solve, evaluate, *PLAIN_VERBS),
)


@click.group(
    "nas",
    cls=NasGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@version_option
@quiet_option
def main() -> None:
    """Compile a teacher network into a smaller, faster student.

    Results go to stdout, progress to stderr. Exit codes: 1 failure, 2 usage or configuration,
    3 infeasible budget, 4 something is missing here, 130 interrupted.
    """


for _verb in VERBS:
    main.add_command(_verb)
