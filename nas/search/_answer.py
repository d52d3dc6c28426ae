"""The answer of a search, and the tables that show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType

from nas._tables import table
from nas._words import duration, number
from nas.proxies import ScoreTable, spearman
from nas.search._arena import Arena
from nas.search._costs import COUNTED
from nas.search._distill import Distilled
from nas.search._latency import LatencyConditions

_SHOWN = 10


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Ranked(_Plain):
    """One architecture. `score` is that of the combined proxies, relative to what was scored;
    `values` are the proxies' own, and `spreads` their standard deviations over the initialisations,
    None where they are not defined.

    `size_ranks`: its place if more parameters, operations or layers were all that counted.
    """

    rank: int
    architecture: str
    score: float
    values: dict[str, float | None]
    spreads: dict[str, float | None]
    costs: dict[str, float]
    size_ranks: dict[str, int]


class SearchAnswer(_Plain):
    """`seconds_each` is what a proxy took for one architecture. `agreement` is the rank correlation
    (Spearman) of the score with each size baseline, over what was scored; None where one of them is
    constant."""

    space: str
    architectures: int
    within_limits: int | None
    scored: int
    reused: int
    strategy: str
    proxies: tuple[str, ...]
    combined_on: str
    seconds_each: dict[str, float]
    limits: dict[str, float]
    inits: int
    batch: int
    seed: int
    seconds: float
    latency_conditions: LatencyConditions | None
    agreement: dict[str, float | None]
    ranked: tuple[Ranked, ...]
    distilled: Distilled | None = None


def rank(arena: Arena) -> tuple[Ranked, ...]:
    """Best first; where scores are equal, fewer parameters first."""
    scored = list(arena.scored.values())
    scores = arena.standing(scored)
    order = sorted(
        range(len(scored)),
        key=lambda i: (-scores[i], scored[i].costs["params_m"], scored[i].key),
    )
    sizes = {name: _places([entry.costs[name] for entry in scored]) for name in COUNTED}
    return tuple(
        Ranked(
            rank=place,
            architecture=scored[i].key,
            score=scores[i],
            values={name: _finite(scored[i].value(name)) for name in scored[i].scores},
            spreads={name: _spread(score.values) for name, score in scored[i].scores.items()},
            costs=scored[i].costs,
            size_ranks={name: places[i] for name, places in sizes.items()},
        )
        for place, i in enumerate(order, start=1)
    )


def agreement(arena: Arena) -> dict[str, float | None]:
    """Spearman's correlation of the score with each size baseline."""
    scored = list(arena.scored.values())
    scores = arena.standing(scored)
    sizes = {name: [entry.costs[name] for entry in scored] for name in COUNTED}
    return {name: _finite(spearman(scores, size)) for name, size in sizes.items()}


def seconds_each(arena: Arena) -> dict[str, float]:
    """Seconds that each proxy took for an architecture, on average."""
    table = ScoreTable({entry.key: entry.scores for entry in arena.scored.values()})
    return {name: table.seconds(name) for name in arena.scorer.names}


def answer_tables(answer: SearchAnswer) -> Iterable[RenderableType]:
    """The first architectures, and how far their order is that of size."""
    costs = [name for name in answer.ranked[0].costs if name != "depth"]
    columns = (
        *("rank", "architecture", "score", *answer.proxies, *costs, "depth"),
        *("by params", "by flops", "by depth"),
    )
    rows = [
        (
            entry.rank,
            entry.architecture,
            f"{entry.score:.3f}",
            *(_cell(entry.values[name]) for name in answer.proxies),
            *(number(entry.costs[name]) for name in costs),
            number(entry.costs["depth"]),
            *(entry.size_ranks[name] for name in COUNTED),
        )
        for entry in answer.ranked[:_SHOWN]
    ]
    title = f"{answer.space}: {answer.scored:,} of {answer.architectures:,} architectures scored"
    right = tuple(name for name in columns if name != "architecture")
    yield table(title, columns, rows, right=right, whole=("architecture",))
    if answer.within_limits is not None and answer.limits:
        limits = ", ".join(f"{name} <= {number(value)}" for name, value in answer.limits.items())
        yield f"within {limits}: {answer.within_limits:,}"
    found = ", ".join(f"{name} {_cell(value, '.2f')}" for name, value in answer.agreement.items())
    yield f"rank correlation of the score with size: {found}"
    reused = f", {answer.reused:,} values from the journal" if answer.reused else ""
    yield f"{answer.strategy} in {duration(answer.seconds)}{reused}"
    each = ", ".join(f"{name} {seconds:.3g}" for name, seconds in answer.seconds_each.items())
    yield f"seconds an architecture: {each}"
    if answer.distilled is not None:
        yield answer.distilled.line()


def _places(values: Sequence[float]) -> list[int]:
    """Place of each, the largest first; equals share the better place."""
    descending = sorted(values, reverse=True)
    first: dict[float, int] = {}
    for place, value in enumerate(descending, start=1):
        first.setdefault(value, place)
    return [first[value] for value in values]


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _spread(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return _finite((sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5)


def _cell(value: float | None, form: str = ".4g") -> str:
    return "-" if value is None else format(value, form)
