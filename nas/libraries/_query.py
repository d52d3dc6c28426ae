"""What is asked of a library: objective, limits, how many answers, how long to look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from nas.errors import ConfigError
from nas.uncertainty import Scrutiny

Sense = Literal["max", "min"]
Diverse = Literal["greedily", "jointly"]
_MOST_POINTS = 1000
_MOST_AXES = 2


@dataclass(frozen=True)
class Limit:
    """The sum of column `path` over the slots is at most (`max`) or at least (`min`) `value`."""

    path: str
    value: float
    sense: Sense

    @property
    def option(self) -> str:
        """The option that it was given with."""
        return f"--{self.sense}"

    @classmethod
    def parse(cls, text: str, sense: Sense) -> Self:
        """From `PATH=VALUE`; raises ConfigError."""
        path, equals, value = text.partition("=")
        if not (path and equals):
            raise ConfigError(f"--{sense} {text}: write PATH=VALUE, such as stats.memory_mib=80000")
        return cls(path, _number(value, f"--{sense} {text}"), sense)


@dataclass(frozen=True)
class Sweep:
    """`count` upper limits of column `path`, evenly from `low` to `high`."""

    path: str
    low: float
    high: float
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `PATH=LOW:HIGH:COUNT`; raises ConfigError."""
        path, _, values = text.partition("=")
        parts = values.split(":")
        where = f"--sweep {text}"
        if not path or len(parts) != 3 or not parts[2].isdecimal() or len(parts[2]) > 9:
            raise ConfigError(
                f"{where}: write PATH=LOW:HIGH:COUNT, such as stats.runtime_ms=40000:60000:11"
            )
        low, high, count = _number(parts[0], where), _number(parts[1], where), int(parts[2])
        if not low < high:
            raise ConfigError(f"{where}: LOW must be less than HIGH")
        if not 2 <= count <= _MOST_POINTS:
            raise ConfigError(f"{where}: COUNT is {count}; give 2 to {_MOST_POINTS}")
        return cls(path, low, high, count)

    @property
    def values(self) -> tuple[float, ...]:
        """The limits, ascending; both ends are exact."""
        steps = self.count - 1
        share = [i / steps for i in range(self.count)]
        return tuple(self.low * (1 - s) + self.high * s for s in share)


@dataclass(frozen=True)
class Query:
    """One question. `differ` is the number of slots in which any two of `solutions` differ, and
    `diverse` how they are found, by default greedily.

    With `scrutiny` the one answer is judged, and several get intervals; `noise` is
    the relative standard deviation of losses.
    """

    objective: str | None = None
    limits: tuple[Limit, ...] = ()
    solutions: int | None = None
    differ: int | None = None
    diverse: Diverse | None = None
    time_limit_s: float | None = None
    solver: str = "mip"
    sweeps: tuple[Sweep, ...] = ()
    scrutiny: Scrutiny | None = None
    noise: float | None = None

    def __post_init__(self) -> None:
        if self.solutions is not None and self.sweeps:
            raise ConfigError("--solutions and --sweep: give one of them")
        if self.solutions is None and self.diverse is not None:
            raise ConfigError("--diverse says how --solutions are found; give --solutions, too")
        if self.diverse == "jointly" and self.solver != "mip":
            raise ConfigError(f"--solver {self.solver}: --diverse jointly takes mip only")
        check_sweeps(self.sweeps)
        if self.solutions is None and self.differ is not None:
            raise ConfigError("--differ says how --solutions differ; give --solutions, too")
        self._refuse_blind_scrutiny()
        limit_s = self.time_limit_s
        if limit_s is not None and not (math.isfinite(limit_s) and limit_s > 0):
            raise ConfigError(f"--time-limit {limit_s:g}: give a positive number of seconds")
        self._refuse_repeats()

    @property
    def several(self) -> bool:
        """Whether a list of answers is asked for."""
        return self.solutions is not None or bool(self.sweeps)

    def _refuse_blind_scrutiny(self) -> None:
        if self.scrutiny is None:
            if self.noise is not None:
                raise ConfigError("--noise says how sure losses are; give --confidence, too")
            return
        if self.solver != "mip" and not self.several:
            raise ConfigError(f"--confidence judges an optimum; --solver {self.solver} finds none")

    def _refuse_repeats(self) -> None:
        seen: set[tuple[str, Sense]] = set()
        for limit in self.limits:
            if (limit.path, limit.sense) in seen:
                raise ConfigError(f"{limit.option} {limit.path}: given twice; keep one of them")
            if any(limit.path == sweep.path for sweep in self.sweeps):
                raise ConfigError(
                    f"{limit.option} {limit.path}: --sweep sets the limits of this column; "
                    "leave one of the two out"
                )
            seen.add((limit.path, limit.sense))

    @classmethod
    def parse(
        cls,
        *,
        objective: str | None = None,
        most: Sequence[str] = (),
        least: Sequence[str] = (),
        solutions: int | None = None,
        differ: int | None = None,
        diverse: Diverse | None = None,
        time_limit_s: float | None = None,
        solver: str = "mip",
        sweeps: Sequence[str] = (),
        scrutiny: Scrutiny | None = None,
        noise: float | None = None,
    ) -> Self:
        """From the words of a command line; raises ConfigError naming the option."""
        return cls(
            objective=objective,
            limits=(
                *(Limit.parse(text, "max") for text in most),
                *(Limit.parse(text, "min") for text in least),
            ),
            solutions=solutions,
            differ=differ,
            diverse=diverse,
            time_limit_s=time_limit_s,
            solver=solver,
            sweeps=tuple(Sweep.parse(text) for text in sweeps),
            scrutiny=scrutiny,
            noise=noise,
        )


def check_sweeps(sweeps: Sequence[Sweep]) -> None:
    """Raise ConfigError for more axes, or more points in all, than can be shown."""
    paths = [sweep.path for sweep in sweeps]
    if len(paths) > _MOST_AXES:
        raise ConfigError(f"--sweep: {len(paths)} given; a plane is shown at most, so give two")
    if len(set(paths)) < len(paths):
        raise ConfigError(f"--sweep {paths[0]}: given twice; keep one of them")
    points = math.prod(sweep.count for sweep in sweeps)
    if points > _MOST_POINTS:
        raise ConfigError(f"--sweep: {points} points in all; give at most {_MOST_POINTS}")


def _number(text: str, where: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {text!r} is no number; write one such as 80000 or 8e4")
    return value
