"""Solvers: from a problem (options, losses, costs, budgets) to a choice with its certificate."""

from nas.solvers._answer import with_choice
from nas.solvers._base import PROVEN_GAP, Difference, Known, Solver
from nas.solvers._certificate import verify, verify_joint
from nas.solvers._depth_cut import DepthCutSolver
from nas.solvers._diverse import Selected, diverse, select_diverse
from nas.solvers._evolution import EvolutionSolver
from nas.solvers._greedy import EqualSplitSolver, GreedySolver
from nas.solvers._infeasible import (
    BudgetDiagnosis,
    Infeasibility,
    Quotient,
    diagnose,
    raise_infeasible,
)
from nas.solvers._joint import JointSolution, diverse_jointly
from nas.solvers._mip import MipSolver
from nas.solvers._prices import without_unpriced
from nas.solvers._quadratic import Quadratic, best_swaps, improve, option_names
from nas.solvers._random import RandomSolver
from nas.solvers._refine import last_kept, refine_choice
from nas.solvers._registry import create_solver, solver_names
from nas.solvers._resolve import Resolved, Resolver
from nas.solvers._sweep import SweepPoint, front, sweep, with_limit
from nas.solvers._words import duals_in_words, unit_of

__all__ = [
    "PROVEN_GAP",
    "BudgetDiagnosis",
    "DepthCutSolver",
    "Difference",
    "EqualSplitSolver",
    "EvolutionSolver",
    "GreedySolver",
    "Infeasibility",
    "JointSolution",
    "Known",
    "MipSolver",
    "Quadratic",
    "Quotient",
    "RandomSolver",
    "Resolved",
    "Resolver",
    "Selected",
    "Solver",
    "SweepPoint",
    "best_swaps",
    "create_solver",
    "diagnose",
    "diverse",
    "diverse_jointly",
    "duals_in_words",
    "front",
    "improve",
    "last_kept",
    "option_names",
    "raise_infeasible",
    "refine_choice",
    "select_diverse",
    "solver_names",
    "sweep",
    "unit_of",
    "verify",
    "verify_joint",
    "with_choice",
    "with_limit",
    "without_unpriced",
]
