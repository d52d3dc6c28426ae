"""How well each proxy orders networks of known accuracy, beside what their size alone says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from nas.errors import ConfigError
from nas.proxies._accuracies import Accuracies
from nas.proxies._statistics import (
    Integers,
    Interval,
    bootstrap,
    kendall,
    matched_pairs,
    partial,
    spearman,
    top_regret,
)

if TYPE_CHECKING:
    from rich.console import RenderableType


class Bounds(BaseModel):
    """A statistic with its 95 % bootstrap interval; None where it is not defined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    low: float | None
    high: float | None


class Judgement(BaseModel):
    """One proxy: correlations with accuracy, the same with size held, and what picking by it costs.

    `matched` is the share of size-matched pairs in the right order. `regret` is, by k, the best
    accuracy less the best among the k highest scores. `undefined` networks rank last. `seconds` are
    those of one network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    proxy: str
    baseline: bool
    kendall: Bounds
    spearman: Bounds
    partial_kendall: Bounds
    partial_spearman: Bounds
    matched: float | None
    regret: dict[int, float]
    undefined: int
    seconds: float | None


class Verdict(BaseModel):
    """All proxies on one table; `size` is what partial correlations and pairs hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    networks: int
    groups: int
    size: str
    within: float
    matched_pairs: int
    judgements: tuple[Judgement, ...]


def judge(
    known: Accuracies,
    columns: Mapping[str, Sequence[float]],
    *,
    seconds: Mapping[str, float] | None = None,
    within: float = 0.1,
    top: Sequence[int] = (1, 10),
    resamples: int = 500,
    seed: int = 0,
) -> Verdict:
    """Every column of scores, and the sizes as baselines before them.

    Args:
        known: the accuracies; its first size is held.
        columns: scores by proxy, in the order of `known.architectures`; nan ranks last.
        seconds: of one network, by proxy.
        within: pairs whose sizes differ by at most this share count as matched.
        top: the k of each regret.
        resamples: of the bootstrap over groups; 0 leaves intervals out.

    Raises:
        ConfigError: there is no size to hold, or a column has another length.
    """
    if not known.sizes:
        raise ConfigError("name a column of sizes, such as the parameters: gains are over size")
    for name, column in columns.items():
        if len(column) != len(known.architectures):
            raise ConfigError(f"{name}: {len(column)} scores, {len(known.architectures)} networks")
    size = next(iter(known.sizes))
    pairs = matched_pairs(
        known.sizes[size], known.accuracy, known.sizes[size], within=within, groups=known.groups
    )
    # A baseline that is a proxy too is shown once, as the baseline.
    rows = {**known.sizes, **{k: v for k, v in columns.items() if k not in known.sizes}}
    judged = tuple(
        _judge_one(known, name, rows[name], seconds or {}, within, top, resamples, seed)
        for name in rows
    )
    return Verdict(
        table=known.title,
        networks=len(known.architectures),
        groups=len(set(known.groups or known.architectures)),
        size=size,
        within=within,
        matched_pairs=pairs.pairs,
        judgements=judged,
    )


def _judge_one(
    known: Accuracies,
    name: str,
    column: Sequence[float],
    seconds: Mapping[str, float],
    within: float,
    top: Sequence[int],
    resamples: int,
    seed: int,
) -> Judgement:
    scores, accuracy = np.asarray(column, dtype=np.float64), np.asarray(known.accuracy)
    size = np.asarray(next(iter(known.sizes.values())))

    def statistic(rows: Integers) -> tuple[float, ...]:
        s, a, z = scores[rows], accuracy[rows], size[rows]
        tau, rho = kendall(s, a), spearman(s, a)
        tau_held = partial(tau, kendall(s, z), kendall(a, z))
        rho_held = partial(rho, spearman(s, z), spearman(a, z))
        return tau, rho, tau_held, rho_held

    found = bootstrap(statistic, len(scores), groups=known.groups, resamples=resamples, seed=seed)
    matched = matched_pairs(scores, accuracy, size, within=within, groups=known.groups)
    return Judgement(
        proxy=name,
        baseline=name in known.sizes,
        kendall=_bounds(found[0]),
        spearman=_bounds(found[1]),
        partial_kendall=_bounds(found[2]),
        partial_spearman=_bounds(found[3]),
        matched=_known(matched.share),
        regret={k: top_regret(scores, accuracy, k) for k in top},
        undefined=int(np.isnan(scores).sum()),
        seconds=_known(seconds.get(name, math.nan)),
    )


def _bounds(found: Interval) -> Bounds:
    return Bounds(value=_known(found.value), low=_known(found.low), high=_known(found.high))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def verdict_tables(verdict: Verdict) -> Iterable[RenderableType]:
    """The verdict as a table, baselines first, and what its columns hold."""
    from nas._tables import table

    title = f"{verdict.table}: {verdict.networks} networks in {verdict.groups} groups"
    columns, rows = verdict_rows(verdict)
    yield table(title, columns, rows, right=columns[1:], whole=columns[:1])
    yield (
        f"held size: {verdict.size}; {verdict.matched_pairs} pairs within "
        f"{100 * verdict.within:g} % of it; brackets: 95 % bootstrap over groups"
    )


def verdict_rows(verdict: Verdict) -> tuple[list[str], list[list[str]]]:
    """Heads and cells, for a table on a terminal or in Markdown."""
    ks = list(verdict.judgements[0].regret) if verdict.judgements else []
    heads = ["proxy", "Kendall", "Spearman", f"Kendall given {verdict.size}"]
    heads += ["matched %", *(f"regret@{k}" for k in ks), "undefined", "s/network"]
    return heads, [_cells(one) for one in verdict.judgements]


def _cells(one: Judgement) -> list[str]:
    return [
        f"{one.proxy} (baseline)" if one.baseline else one.proxy,
        *(_shown(bounds) for bounds in (one.kendall, one.spearman, one.partial_kendall)),
        "-" if one.matched is None else f"{100 * one.matched:.1f}",
        *(f"{value:.2f}" for value in one.regret.values()),
        str(one.undefined or ""),
        "" if one.seconds is None else f"{one.seconds:.3f}",
    ]


def _shown(bounds: Bounds) -> str:
    if bounds.value is None:
        return "-"
    if bounds.low is None or bounds.high is None:
        return f"{bounds.value:.3f}"
    return f"{bounds.value:.3f} [{bounds.low:.2f}, {bounds.high:.2f}]"
