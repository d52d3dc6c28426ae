"""Answers as tables and lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rich.console import RenderableType

from nas._tables import table
from nas._words import duration, number
from nas.ir.problem import Budget
from nas.libraries._answer import Answer, JointAnswer, RunAnswer
from nas.libraries._heat import heat_map
from nas.libraries._plane import Plane
from nas.solvers import unit_of
from nas.uncertainty import Interval, uncertainty_tables

_BAR = 24
_DIFFERS = "differs: slots with another variant than the first"
_LAYER = re.compile(r"\d+")


def answer_tables(
    found: Answer | list[Answer] | JointAnswer, plane: Plane | None = None
) -> Iterable[RenderableType]:
    """The one answer in full; several as an overview, and where they differ from the first.

    A sweep over two budgets gets a heat map, too.
    """
    if isinstance(found, JointAnswer):
        yield from _joint(found)
        return
    answers = found if isinstance(found, list) else [found]
    if answers[0].infeasibility is not None:
        return
    if isinstance(found, list):
        yield _overview(answers)
        if len(answers) == 1:
            yield from _answer(answers[0])
        if plane is not None:
            yield from heat_map(plane)
        return
    yield from _answer(found)


def _answer(answer: Answer) -> Iterable[RenderableType]:
    yield _verdict(answer)
    if answer.batch is not None:
        yield f"batch {answer.batch}, chosen from those of the target"
    if isinstance(answer, RunAnswer) and answer.realised_kl is not None:
        yield f"realised KL of the whole network: {number(answer.realised_kl)} nats a token"
    if answer.budgets:
        rows = [_budget(answer, budget) for budget in answer.budgets]
        figures = ("limit", "total", "slack")
        yield table("budgets", ("budget", *figures, "unit"), rows, right=figures, whole=("budget",))
        yield from answer.prices
    columns = ("variant", "slots", "where")
    chosen = [(v, len(slots), places(slots)) for v, slots in _by_variant(answer.choice).items()]
    yield table("choice", columns, chosen, right=("slots",), whole=("variant",))
    if answer.uncertainty is not None:
        yield from uncertainty_tables(answer.uncertainty)


def _joint(joint: JointAnswer) -> Iterable[RenderableType]:
    if joint.infeasibility is not None:
        return
    objective, bound = _exact(joint.objective), _exact(joint.bound)
    took = duration(joint.seconds)
    yield f"{joint.status}: sum {objective}, bound {bound}, gap {_gap(joint)}; jointly in {took}"
    if joint.greedy_objective is None:
        yield "found greedily: fewer solutions"
    else:
        yield f"found greedily: sum {_exact(joint.greedy_objective)}"
    yield _overview(joint.solutions, jointly=True)


def _verdict(answer: Answer) -> str:
    took = f"{answer.solver} in {duration(answer.seconds)}"
    objective, bound = _exact(answer.objective), _exact(answer.bound)
    what = "summed loss " if isinstance(answer, RunAnswer) else ""
    return f"{answer.status}: {what}{objective}, bound {bound}, gap {_gap(answer)}; {took}"


def _budget(answer: Answer, budget: Budget) -> tuple[object, ...]:
    sign = "<=" if budget.sense == "max" else ">="
    total, slack = answer.costs[budget.cost], answer.slack[budget.name]
    return (
        budget.name,
        f"{sign} {budget.limit:.10g}",
        _exact(total),
        number(slack),
        unit_of(budget.cost),
    )


def _overview(answers: Sequence[Answer], *, jointly: bool = False) -> RenderableType:
    """A line an answer: what a sweep asked, totals, objective, gap, and the objective as a bar.

    Of answers found `jointly` only the sum is claimed to be optimal: none has a status, and its gap
    says how far it is from the best one alone.
    """
    swept = list(answers[0].asked)
    costs = list(answers[0].costs)
    batch = ["batch"] if any(answer.batch is not None for answer in answers) else []
    sure = ["interval", "beyond the first"] if answers[0].measured is not None else []
    columns = (
        *("#", *(f"limit of {name}" for name in swept), *batch, *costs),
        *("objective", *sure, "from the best single one" if jointly else "gap"),
        *(() if jointly else ("status",)),
        *("differs", "loss"),
    )
    most = max((answer.objective or 0.0) for answer in answers)
    rows = [
        (
            i + 1,
            *(number(answer.asked[name]) for name in swept),
            *(str(answer.batch) for _ in batch),
            *(number(answer.costs[cost]) for cost in costs),
            _exact(answer.objective),
            *((_ends(answer.measured), _ends(answer.difference)) if sure else ()),
            _gap(answer),
            *(() if jointly else (answer.status,)),
            _differing(answers[0], answer) if i else "",
            _bar(answer.objective, most),
        )
        for i, answer in enumerate(answers)
    ]
    return table(_DIFFERS, columns, rows, right=columns[:-1], whole=columns)


def _ends(interval: Interval | None) -> str:
    return "" if interval is None else f"{number(interval.low)} to {number(interval.high)}"


def _differing(first: Answer, other: Answer) -> int:
    return sum(other.choice[slot] != variant for slot, variant in first.choice.items())


def _bar(value: float | None, most: float) -> str:
    share = max(value or 0.0, 0.0) / most if most > 0 else 0.0
    return "#" * round(_BAR * share)


def _gap(answer: Answer | JointAnswer) -> str:
    return "unknown" if answer.gap is None else f"{100 * answer.gap:.2g} %"


def _exact(value: float | None) -> str | None:
    return None if value is None else f"{value:.10g}"


def _by_variant(choice: Mapping[str, str]) -> dict[str, list[str]]:
    """The slots of each variant, the most frequent variant first."""
    groups: dict[str, list[str]] = {}
    for slot, variant in choice.items():
        groups.setdefault(variant, []).append(slot)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def places(slots: Sequence[str]) -> str:
    """Slots in few words: `layers.*.ffn 0-3 7` for those whose names differ in one number."""
    numbers: dict[str, list[int]] = {}
    for slot in slots:
        found = _LAYER.search(slot)
        plain = found is not None and str(int(found.group())) == found.group()
        name = _LAYER.sub("*", slot, count=1) if plain else slot
        numbers.setdefault(name, [])
        if found is not None and plain:
            numbers[name].append(int(found.group()))
    return "; ".join(
        " ".join([*([] if name == "*" else [name]), *_ranges(sorted(values))])
        for name, values in numbers.items()
    )


def _ranges(values: Sequence[int]) -> list[str]:
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
