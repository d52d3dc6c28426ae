"""Scores of many networks: averaged over inits and batches, timed, and shared by nobody."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nas.errors import ConfigError
from nas.progress import Progress, SilentProgress
from nas.proxies._base import Proxy, TeacherView, Trial


@dataclass(frozen=True)
class Score:
    """What a proxy says of a network: the mean of its defined `values`, one a trial.

    nan where none is defined; `undefined` counts those that are not. `seconds` are of all trials.
    """

    values: tuple[float, ...]
    seconds: float

    @property
    def value(self) -> float:
        defined = [value for value in self.values if not math.isnan(value)]
        return sum(defined) / len(defined) if defined else math.nan

    @property
    def undefined(self) -> int:
        return sum(math.isnan(value) for value in self.values)


@dataclass
class ScoreTable:
    """Architecture -> proxy -> score, in the order in which they were measured."""

    rows: dict[str, dict[str, Score]] = field(default_factory=dict)

    @property
    def proxies(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for row in self.rows.values() for name in row))

    def column(self, proxy: str, architectures: Iterable[str] | None = None) -> list[float]:
        """Values of one proxy, nan where a network has none."""
        wanted = self.rows if architectures is None else architectures
        found = (self.rows.get(name, {}).get(proxy) for name in wanted)
        return [math.nan if score is None else score.value for score in found]

    def seconds(self, proxy: str) -> float:
        """Median over the networks that have it: a run may have been paused."""
        found = [row[proxy].seconds for row in self.rows.values() if proxy in row]
        return statistics.median(found) if found else math.nan


def measure(proxy: Proxy, trials: Sequence[Trial]) -> Score:
    """One network by one proxy; every trial builds its own copy.

    Raises:
        ConfigError: there are no trials, or they lack what the proxy needs.
    """
    if not trials:
        raise ConfigError("a score needs at least one trial")
    began = time.perf_counter()
    values = tuple(_finite(proxy.score(trial)) for trial in trials)
    return Score(values, time.perf_counter() - began)


def evaluate(
    proxies: Sequence[Proxy],
    trials: Mapping[str, Sequence[Trial]],
    progress: Progress | None = None,
) -> ScoreTable:
    """All proxies on all networks: `trials` holds those of each architecture.

    Nothing is shared between two scores but the teacher's passes, which `TeacherView` runs once
    before the clock starts.
    """
    found = ScoreTable()
    for view in (trial.teacher for own in trials.values() for trial in own):
        warm_up(proxies, view)
    with (progress or SilentProgress()).task("scores", len(trials)) as advance:
        for name, own in trials.items():
            found.rows[name] = {proxy.name: measure(proxy, own) for proxy in proxies}
            advance(1)
    return found


def warm_up(proxies: Iterable[Proxy], view: TeacherView | None) -> None:
    """Run the teacher's passes, once however often asked, so that no candidate pays for them."""
    for proxy in proxies:
        if view is not None and "teacher" in proxy.needs:
            view.prepare(labels="labels" in proxy.needs)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
