"""Small problems and the brute force that solvers are compared with."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable

from hypothesis import strategies as st

from nas.ir.problem import Budget, Option, Problem


def make_problem(
    table: dict[str, dict[str, tuple[float, ...]]], *budgets: Budget, costs: str = "a b c"
) -> Problem:
    """`{slot: {variant: (loss, cost a, cost b, ...)}}` as a problem."""
    names = costs.split()
    return Problem(
        slots={
            slot: tuple(
                Option(variant=v, loss=row[0], costs=dict(zip(names, row[1:], strict=False)))
                for v, row in options.items()
            )
            for slot, options in table.items()
        },
        budgets=budgets,
    )


def random_problem(seed: int, slots: int = 12, options: int = 6, share: float = 0.5) -> Problem:
    """Two `max` budgets on latency_ms and memory_mib at `share` of the heaviest network.

    Each slot is a layer; its lightest option, `skip`, loses most.
    """
    source = random.Random(seed)
    table = {
        f"s{i}": {
            f"v{j}" if j else "skip": (
                source.random() * (1 - j / (options - 1)) ** 2 if j else 1.0 + source.random(),
                j + source.random(),
                100 * (j + source.random()),
            )
            for j in range(options)
        }
        for i in range(slots)
    }
    limit = share * slots * options
    return make_problem(
        table,
        Budget(name="latency_ms", cost="latency_ms", limit=limit),
        Budget(name="memory_mib", cost="memory_mib", limit=100 * limit + 7, fixed=7.0),
        costs="latency_ms memory_mib",
    )


def hard_problem(slots: int, options: int, seed: int = 0) -> Problem:
    """Loss and three costs without any relation, all budgets tight: no search is over at once."""
    source = random.Random(seed)
    table = {
        f"s{i}": {f"v{j}": tuple(source.random() for _ in range(4)) for j in range(options)}
        for i in range(slots)
    }
    return make_problem(table, *(Budget(name=c, cost=c, limit=0.4 * slots) for c in "abc"))


def meets(problem: Problem, options: tuple[Option, ...]) -> bool:
    for budget in problem.budgets:
        total = math.fsum([budget.fixed, *(option.costs[budget.cost] for option in options)])
        over = total - budget.limit if budget.sense == "max" else budget.limit - total
        if over > 1e-11 * (1 + abs(budget.limit)):
            return False
    return True


def brute_force(problem: Problem) -> float | None:
    """The least feasible loss, None when nothing is feasible."""
    losses = [
        math.fsum(option.loss for option in options)
        for options in itertools.product(*problem.slots.values())
        if meets(problem, options)
    ]
    return min(losses, default=None)


_NUMBERS = st.one_of(
    st.integers(-4, 9).map(float),
    st.sampled_from([0.0, 0.1, 0.2, 0.3, 1e-6, 1e-3]),
    st.floats(-5, 20, allow_nan=False, allow_subnormal=False).map(lambda x: round(x, 3)),
)


@st.composite
def small_problems(draw: st.DrawFn, most_slots: int = 5, most_options: int = 4) -> Problem:
    """Few slots and options and up to 3 budgets of either sense; ties, zeros and limits that some
    choice meets exactly are frequent."""
    sizes = draw(st.lists(st.integers(1, most_options), min_size=1, max_size=most_slots))
    scale = draw(st.sampled_from([1.0, 1e-4, 1e5]))
    slots = {
        f"s{i}": tuple(
            Option(
                variant=f"v{j}",
                loss=draw(_NUMBERS) * scale,
                costs={name: draw(_NUMBERS) for name in "abc"},
            )
            for j in range(size)
        )
        for i, size in enumerate(sizes)
    }
    budgets = []
    for name in "abc"[: draw(st.integers(0, 3))]:
        fixed = draw(st.sampled_from([0.0, 2.5]))
        met = math.fsum(draw(st.sampled_from(o)).costs[name] for o in slots.values()) + fixed
        shift = draw(st.sampled_from([0.0, 0.0, 1.0, -1.0, -20.0]))
        sense = draw(st.sampled_from(["max", "max", "min"]))
        budgets.append(Budget(name=name, cost=name, limit=met + shift, sense=sense, fixed=fixed))
    return Problem(slots=slots, budgets=tuple(budgets))


def with_losses(problem: Problem, losses: Iterable[float]) -> Problem:
    """`problem` with other losses, one an option in the order of the problem."""
    values = iter(losses)
    slots = {
        slot: tuple(option.model_copy(update={"loss": float(next(values))}) for option in options)
        for slot, options in problem.slots.items()
    }
    return problem.model_copy(update={"slots": slots})
