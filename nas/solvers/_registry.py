"""Solvers by the name that a configuration gives them."""

from __future__ import annotations

import difflib

from nas.errors import ConfigError
from nas.solvers._base import Solver
from nas.solvers._depth_cut import DepthCutSolver
from nas.solvers._evolution import EvolutionSolver
from nas.solvers._greedy import EqualSplitSolver, GreedySolver
from nas.solvers._mip import MipSolver
from nas.solvers._random import RandomSolver

_SOLVERS: dict[str, type[Solver]] = {
    kind.name: kind
    for kind in (
        MipSolver,
        GreedySolver,
        EqualSplitSolver,
        EvolutionSolver,
        RandomSolver,
        DepthCutSolver,
    )
}


def solver_names() -> tuple[str, ...]:
    """All names that `create_solver` takes."""
    return tuple(_SOLVERS)


def create_solver(name: str) -> Solver:
    """The solver called `name` with its default settings; raises ConfigError for another name."""
    if name not in _SOLVERS:
        close = difflib.get_close_matches(name, _SOLVERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        raise ConfigError(f"no solver {name!r}{hint} known are {', '.join(_SOLVERS)}")
    return _SOLVERS[name]()
