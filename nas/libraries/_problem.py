"""From a library and a query to the problem that solvers take."""

from __future__ import annotations

from collections.abc import Sequence

from nas.errors import ConfigError
from nas.ir.problem import Budget, Option, Problem
from nas.libraries._library import BlockLibrary
from nas.libraries._query import Limit, Query


def make_problem(library: BlockLibrary, query: Query) -> Problem:
    """Losses from the objective's column, one cost for each column that is limited.

    A swept column gets a `max` budget at its highest limit. Budgets that the file states hold,
    unless the query limits the same column. Raises ConfigError for a path that means no column,
    ArtifactError where a value of a column is missing or no finite number.
    """
    loss = _objective(library, query)
    limits = [*query.limits]
    limits += [Limit(sweep.path, sweep.high, "max") for sweep in query.sweeps]
    columns = {limit.path: library.column(limit.path, _option(query, limit)) for limit in limits}
    kept = [budget for budget in library.budgets if budget.cost not in columns.values()]
    columns |= {b.cost: library.column(b.cost, f"budget {b.name} of the file:") for b in kept}
    _refuse_aliases([limit.path for limit in limits], columns)
    slots = {
        slot: tuple(
            Option(
                variant=variant,
                loss=library.number(slot, variant, loss),
                costs={
                    path: library.number(slot, variant, column) for path, column in columns.items()
                },
            )
            for variant in variants
        )
        for slot, variants in library.rows.items()
    }
    return Problem(slots=slots, budgets=(*kept, *_budgets(library, limits, columns)))


def uncounted(library: BlockLibrary, problem: Problem) -> tuple[str, ...]:
    """Limited columns of a run's problem whose part outside the slots the file does not state."""
    if not library.budgets:
        return ()
    stated = {budget.cost for budget in library.budgets}
    return tuple(dict.fromkeys(b.cost for b in problem.budgets if b.cost not in stated))


def _objective(library: BlockLibrary, query: Query) -> str:
    path = query.objective or library.objective
    if path is None:
        raise ConfigError(
            f"--objective: say which column of {library.path} to minimise, such as metrics.kl_div; "
            f"it has {', '.join(library.columns[:12])}"
        )
    return library.column(path, "--objective")


def _option(query: Query, limit: Limit) -> str:
    swept = any(limit.path == sweep.path for sweep in query.sweeps)
    return "--sweep" if swept else limit.option


def _refuse_aliases(paths: Sequence[str], columns: dict[str, str]) -> None:
    first: dict[str, str] = {}
    for path in paths:
        other = first.setdefault(columns[path], path)
        if other != path:
            raise ConfigError(
                f"{other} and {path} are both the column {columns[path]}; write it one way"
            )


def _budgets(
    library: BlockLibrary, limits: Sequence[Limit], columns: dict[str, str]
) -> tuple[Budget, ...]:
    """Budgets are called as their paths; the second limit of a path `PATH.min`."""
    fixed = {budget.cost: budget.fixed for budget in library.budgets}
    most = {limit.path for limit in limits if limit.sense == "max"}
    return tuple(
        Budget(
            name=f"{limit.path}.min" if limit.sense == "min" and limit.path in most else limit.path,
            cost=limit.path,
            limit=limit.value,
            sense=limit.sense,
            fixed=fixed.get(columns[limit.path], 0.0),
        )
        for limit in limits
    )
