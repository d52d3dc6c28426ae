"""Searching trained SuperLMs under limits, without training anything more."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas._words import number
from nas.errors import ConfigError, InfeasibleError
from nas.networks import BertSpec
from nas.progress import Progress, SilentProgress
from nas.proxies import Score
from nas.run import content_key
from nas.search._infeasible import explain
from nas.search._journal import Journal
from nas.supernet._judge import Judge
from nas.supernet._network import SuperNetwork
from nas.supernet._spaces import SubSpace
from nas.supernet._timer import EncoderTimer, Pace

COUNTED = ("params_m", "flops_m")


@dataclass(frozen=True)
class Limits:
    """Most millions of parameters and of multiply-accumulates of one text of the space's `tokens`,
    most milliseconds of a measured pass, least measured speed-up over the teacher."""

    params_m: float | None = None
    flops_m: float | None = None
    latency_ms: float | None = None
    speedup: float | None = None

    @classmethod
    def of(cls, most: Mapping[str, float], speedup: float | None = None) -> Limits:
        """From `COST=VALUE` as `parse_limits` reads them; raises ConfigError for another cost."""
        strange = sorted(set(most) - {*COUNTED, "latency_ms"})
        if strange:
            known = ", ".join((*COUNTED, "latency_ms"))
            raise ConfigError(f"--max {strange[0]}: nobody knows this cost; known: {known}")
        return cls(**most, speedup=speedup)

    @property
    def counted(self) -> dict[str, float]:
        """Those that need no measuring."""
        values = {name: getattr(self, name) for name in COUNTED}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def measured(self) -> bool:
        """Whether a student must be timed to know that it is within the limits."""
        return self.latency_ms is not None or self.speedup is not None

    def kept(self, pace: Pace) -> bool:
        """Whether a measured student is fast enough."""
        slow = self.latency_ms is not None and pace.latency_ms > self.latency_ms
        return not slow and (self.speedup is None or pace.speedup >= self.speedup)


@dataclass(frozen=True)
class Candidate:
    """A student of a SuperLM with its score; `pace` where it was measured."""

    sub_space: str
    spec: BertSpec
    score: float
    pace: Pace | None = None

    @property
    def costs(self) -> dict[str, float]:
        return counted_costs(self.spec)


@dataclass(frozen=True)
class SearchResult:
    """`ranked`: all that were scored, best first. `timed`: those that were measured, in the order
    of their scores; `winner` is the first of them that keeps the limits, or the first of all."""

    winner: Candidate
    ranked: tuple[Candidate, ...]
    timed: tuple[Candidate, ...]
    within_limits: int


def counted_costs(spec: BertSpec) -> dict[str, float]:
    """`params_m`, `flops_m`."""
    size = spec.size()
    return {"params_m": size.params / 1e6, "flops_m": size.flops / 1e6}


def search_subnets(
    networks: Sequence[tuple[SubSpace, SuperNetwork]],
    judge: Judge,
    limits: Limits,
    *,
    timer: EncoderTimer | None = None,
    trials: int | None = None,
    seed: int = 0,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """The best student within the limits, its weights those of its SuperLM.

    All students within the counted limits are scored, or `trials` of each sub-space, drawn at
    random. Then students are timed, best first, until one is fast enough; one that is larger in
    every dimension than one that was too slow is not timed. Raises InfeasibleError where none is
    within the limits.
    """
    progress = progress or SilentProgress()
    fitting = _fitting(networks, limits)
    within = sum(len(specs) for specs in fitting.values())
    journal = journal or Journal(None, {})
    scored = _scored(networks, fitting, judge, trials, seed, journal, progress)
    ranked = tuple(sorted(scored, key=lambda c: (-c.score, c.costs["params_m"], c.spec.key)))
    if not limits.measured:
        return SearchResult(ranked[0], ranked, (), within)
    if timer is None:
        raise ConfigError("a limit on latency needs a timer")
    timed = _first_fast({s.name: n for s, n in networks}, ranked, limits, timer, progress)
    return SearchResult(timed[-1], ranked, tuple(timed), within)


def _fitting(
    networks: Sequence[tuple[SubSpace, SuperNetwork]], limits: Limits
) -> dict[str, list[BertSpec]]:
    """Students of each sub-space within the counted limits."""
    known = {space.name: [(s, counted_costs(s)) for s in space.specs()] for space, _ in networks}
    wanted = limits.counted
    found = {
        name: [s for s, costs in specs if all(costs[c] <= most for c, most in wanted.items())]
        for name, specs in known.items()
    }
    if not any(found.values()):
        costs = [costs for specs in known.values() for _, costs in specs]
        raise explain(", ".join(known), wanted, costs)
    return found


def _scored(
    networks: Sequence[tuple[SubSpace, SuperNetwork]],
    fitting: Mapping[str, list[BertSpec]],
    judge: Judge,
    trials: int | None,
    seed: int,
    journal: Journal,
    progress: Progress,
) -> list[Candidate]:
    chosen = []
    for space, network in networks:
        specs = fitting[space.name]
        if trials is not None and trials < len(specs):
            specs = random.Random(f"{seed}/{space.name}").sample(specs, trials)
        what = f"{judge.name}, {space.name}, {content_key(space.about)}"
        chosen += [(space.name, what, network, spec) for spec in specs]
    found = []
    with progress.task(f"scoring subnets, {judge.name}", len(chosen)) as advance:
        for name, what, network, spec in chosen:
            known = journal.get(spec.key, what)
            if known is None:
                known = Score((judge.score(network.extract(spec)),), 0.0)
                journal.add(spec.key, what, known)
            found.append(Candidate(name, spec, known.values[0]))
            advance(1)
    return found


def _first_fast(
    networks: Mapping[str, SuperNetwork],
    ranked: Sequence[Candidate],
    limits: Limits,
    timer: EncoderTimer,
    progress: Progress,
) -> list[Candidate]:
    """Measured students up to the first that keeps the limits."""
    timed: list[Candidate] = []
    for candidate in ranked:
        if any(_contains(candidate.spec, slow.spec) for slow in timed):
            continue
        pace = timer.time(networks[candidate.sub_space].extract(candidate.spec))
        timed.append(Candidate(candidate.sub_space, candidate.spec, candidate.score, pace))
        progress.say(f"{candidate.spec.key}: {pace.latency_ms:.1f} ms, {pace.speedup:.2f} x")
        if limits.kept(pace):
            return timed
    paces = [c.pace for c in timed if c.pace is not None]
    tightest = {
        "latency_ms": min(p.latency_ms for p in paces),
        "speedup": max(p.speedup for p in paces),
    }
    raise InfeasibleError(
        f"no scored student is fast enough; the fastest of those measured takes "
        f"{number(tightest['latency_ms'])} ms, a speed-up of {number(tightest['speedup'])}",
        tightest,
    )


def _contains(large: BertSpec, small: BertSpec) -> bool:
    """Whether no dimension of `large` is smaller."""
    dimensions = ("layers", "heads", "hidden", "attention_width", "mlp_width")
    return all(getattr(large, name) >= getattr(small, name) for name in dimensions)
