"""Block libraries that no run made: read a file, ask for a choice, get certified answers."""

from nas.libraries._answer import Answer, Diagnosis, Relaxation
from nas.libraries._library import BlockLibrary
from nas.libraries._query import Query, Sweep
from nas.libraries._read import read_library
from nas.libraries._show import answer_tables
from nas.libraries._solve import Answers, solve_library

__all__ = [
    "Answer",
    "Answers",
    "BlockLibrary",
    "Diagnosis",
    "Query",
    "Relaxation",
    "Sweep",
    "answer_tables",
    "read_library",
    "solve_library",
]
