"""Solvers: from a problem (options, losses, costs, budgets) to a choice with its certificate."""

from nas.solvers._base import PROVEN_GAP, Difference, Solver
from nas.solvers._certificate import verify
from nas.solvers._diverse import diverse
from nas.solvers._evolution import EvolutionSolver
from nas.solvers._greedy import EqualSplitSolver, GreedySolver
from nas.solvers._infeasible import BudgetDiagnosis, Infeasibility, diagnose, raise_infeasible
from nas.solvers._mip import MipSolver
from nas.solvers._random import RandomSolver
from nas.solvers._registry import create_solver, solver_names
from nas.solvers._resolve import Resolved, Resolver
from nas.solvers._sweep import sweep, with_limit
from nas.solvers._words import duals_in_words, unit_of

__all__ = [
    "PROVEN_GAP",
    "BudgetDiagnosis",
    "Difference",
    "EqualSplitSolver",
    "EvolutionSolver",
    "GreedySolver",
    "Infeasibility",
    "MipSolver",
    "RandomSolver",
    "Resolved",
    "Resolver",
    "Solver",
    "create_solver",
    "diagnose",
    "diverse",
    "duals_in_words",
    "raise_infeasible",
    "solver_names",
    "sweep",
    "unit_of",
    "verify",
    "with_limit",
]
