"""Sweep: the front of loss over one or two budgets of a run, in the units that the user wrote."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nas._words import more_is_tighter
from nas.config import RunConfig, with_budget
from nas.errors import InfeasibleError
from nas.libraries import (
    Answers,
    Axis,
    RunAnswer,
    Sweep,
    check_sweeps,
    compared,
    solve_front,
    solve_fronts,
)
from nas.meters import CostTable
from nas.passes._artefacts import Artefacts
from nas.passes._context import PassContext
from nas.passes.solve import make_budgets, make_problem, noise_of
from nas.solvers import create_solver
from nas.uncertainty import Scrutiny


def loosened(config: RunConfig, sweeps: Sequence[Sweep]) -> RunConfig:
    """The configuration with every swept budget at its loosest value; raises ConfigError."""
    check_sweeps(sweeps)
    for asked in sweeps:
        loosest = asked.low if more_is_tighter(asked.path) else asked.high
        for value in (asked.low, asked.high, loosest):
            config = with_budget(config, asked.path, value, f"--sweep {asked.path}")
    return config


def sweep(
    artefacts: Artefacts, sweeps: Sequence[Sweep], scrutiny: Scrutiny | None = None
) -> Answers:
    """The certified front, or why nothing meets the loosest budgets; the configuration of
    `artefacts` must be one that `loosened` made. Where the batch is a choice, each point has that
    at which least is lost. With `scrutiny` every point gets an interval.

    Raises PassError as the solver does.
    """
    began, solver = time.perf_counter(), artefacts.context.config.solve.solver
    try:
        front = _front(artefacts, sweeps)
    except InfeasibleError as error:
        return Answers([RunAnswer.refused(error, solver, time.perf_counter() - began)])
    if scrutiny is None:
        return front
    scores = artefacts.scores
    problem = make_problem(artefacts.context, artefacts.costs, artefacts.usable, scores)
    return compared(front, problem, noise_of(problem, scores), scrutiny.confidence)


def _front(artefacts: Artefacts, sweeps: Sequence[Sweep]) -> Answers:
    context, table = artefacts.context, artefacts.costs
    config = context.config.solve
    batches = {
        batch: (
            make_problem(context, table, artefacts.usable, artefacts.scores, batch=batch),
            [_axis(context, table, asked, batch) for asked in sweeps],
        )
        for batch in context.config.target.every_batch
    }
    solver = create_solver(config.solver)
    if len(batches) == 1:
        ((problem, axes),) = batches.values()
        return solve_front(problem, axes, solver, config.time_limit_s)
    return solve_fronts(batches, solver, config.time_limit_s)


def _axis(context: PassContext, table: CostTable, asked: Sweep, batch: int) -> Axis:
    """The limits on a cost that the values of a budget mean at a batch, such as milliseconds of a
    speed-up."""
    of_a_phase = asked.path.split(".")[-1] in ("latency_ms", "speedup")
    name = f"{asked.path}.prefill" if of_a_phase else asked.path
    limits = []
    for value in asked.values:
        budgets = with_budget(context.config, asked.path, value, f"--sweep {asked.path}").budgets
        limits.append(
            next(
                budget.limit
                for budget in make_budgets(context, table, budgets, batch)
                if budget.name == name
            )
        )
    return Axis(asked.path, asked.values, name, tuple(limits))
