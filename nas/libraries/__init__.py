"""Block libraries that no run made: read a file, ask for a choice, get certified answers."""

from nas.libraries._answer import Answer, Answers, Diagnosis, JointAnswer, Relaxation, RunAnswer
from nas.libraries._compare import compared
from nas.libraries._front import solve_front, solve_fronts
from nas.libraries._library import BlockLibrary
from nas.libraries._plane import Axis, Plane
from nas.libraries._prices import priced
from nas.libraries._query import Diverse, Query, Sweep, check_sweeps
from nas.libraries._read import read_library
from nas.libraries._show import answer_tables
from nas.libraries._solve import solve_library

__all__ = [
    "Answer",
    "Answers",
    "Axis",
    "BlockLibrary",
    "Diagnosis",
    "Diverse",
    "JointAnswer",
    "Plane",
    "Query",
    "Relaxation",
    "RunAnswer",
    "Sweep",
    "answer_tables",
    "check_sweeps",
    "compared",
    "priced",
    "read_library",
    "solve_front",
    "solve_fronts",
    "solve_library",
]
