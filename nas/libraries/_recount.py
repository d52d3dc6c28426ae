"""The last look at an answer: its figures counted from the rows of the file.

`nas.solvers.verify` checks a solution against the problem that its solver was given; this finds
what went wrong on the way from the file to the problem.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from nas.errors import PassError
from nas.ir.problem import Budget
from nas.libraries._answer import Answer
from nas.libraries._library import BlockLibrary
from nas.libraries._query import Query

_RELATIVE = 1e-9


def check_rows(library: BlockLibrary, query: Query, answer: Answer) -> None:
    """Raise PassError naming everything in which `answer` disagrees with the rows of `library`.

    Checked: objective and costs, summed by column over the choice; the slack of each budget, and
    that it is met; that every limit of the query is among the budgets. Sums may differ by 1e-9 of
    the magnitudes summed.
    """
    if answer.infeasibility is not None:
        return
    unknown = [slot for slot, rows in library.rows.items() if answer.choice.get(slot) not in rows]
    faults = [f"choice: none in slot {slot}" for slot in unknown]
    if not faults:
        faults = [*_figures(library, query, answer), *_missing_limits(query, answer)]
    if faults:
        raise PassError(
            f"the answer of solver {answer.solver} is not what {library.path} says: "
            + "; ".join(faults)
            + "; report this"
        )


def _figures(library: BlockLibrary, query: Query, answer: Answer) -> Iterator[str]:
    values = _chosen(library, answer, query.objective or library.objective or "")
    yield from _unlike("objective", answer.objective, values)
    for cost, claimed in answer.costs.items():
        yield from _unlike(f"costs.{cost}", claimed, _counted(library, answer, cost))
    for budget in answer.budgets:
        sign = 1.0 if budget.sense == "max" else -1.0
        used = [-sign * value for value in _counted(library, answer, budget.cost)]
        terms = [sign * budget.limit, *used]
        yield from _unlike(f"slack.{budget.name}", answer.slack.get(budget.name), terms)
        if math.fsum(terms) < 0 and math.fsum(terms) < -_allowed(library, budget):
            yield f"budget {budget.name}: exceeded by {-math.fsum(terms)}"


def _missing_limits(query: Query, answer: Answer) -> Iterator[str]:
    held = {(budget.cost, budget.limit, budget.sense) for budget in answer.budgets}
    for limit in query.limits:
        if (limit.path, limit.value, limit.sense) not in held:
            yield f"{limit.option} {limit.path}: no budget of the answer"


def _counted(library: BlockLibrary, answer: Answer, cost: str) -> list[float]:
    """The terms of a cost: what stands outside the slots, and each slot's."""
    column = library.column(cost, "costs")
    fixed = next((b.fixed for b in library.budgets if library.column(b.cost, "costs") == column), 0)
    return [fixed, *_chosen(library, answer, column)]


def _allowed(library: BlockLibrary, budget: Budget) -> float:
    """Of rounding: by the largest values of each slot, as solvers count it."""
    column = library.column(budget.cost, "costs")
    largest = [
        max(abs(library.number(slot, variant, column)) for variant in rows)
        for slot, rows in library.rows.items()
    ]
    return _rounding([budget.limit, budget.fixed, *largest])


def _chosen(library: BlockLibrary, answer: Answer, path: str) -> list[float]:
    column = library.column(path, "column")
    return [library.number(slot, answer.choice[slot], column) for slot in library.rows]


def _unlike(name: str, claimed: float | None, terms: list[float]) -> Iterator[str]:
    summed = math.fsum(terms)
    if claimed is None or not abs(claimed - summed) <= _rounding(terms):
        yield f"{name}: {claimed} claimed, {summed} counted"


def _rounding(terms: list[float]) -> float:
    return _RELATIVE * math.fsum(map(abs, terms))
