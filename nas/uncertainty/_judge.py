"""How far a solution can be trusted: what is certain in it, and what its loss really is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from nas.errors import ConfigError
from nas.ir.problem import Problem
from nas.progress import Progress, SilentProgress
from nas.solvers import Resolver
from nas.uncertainty._base import Ints, Noise
from nas.uncertainty._interval import Interval
from nas.uncertainty._regret import Regret, regrets
from nas.uncertainty._replicates import Replicates, replicate

NEAR = 0.01
"""Answers whose loss is at most this share above the optimum are near-optimal."""

_FEW = 10


@dataclass(frozen=True)
class Scrutiny:
    """How closely to look: the confidence of intervals, and how many draws are solved."""

    confidence: float = 0.9
    resamples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence <= 0.999:
            raise ConfigError(f"--confidence {self.confidence:g}: give one from 0.5 to 0.999")
        if self.resamples < 2:
            raise ConfigError(f"--resamples {self.resamples}: give 2 or more")


class SlotCertainty(BaseModel):
    """One slot of the choice.

    `frequencies`: the share of draws whose best choice has each variant, most frequent first, those
    that never occur left out; `frequency` is that of the choice, `certain` when it reaches the
    confidence. `regret` is what the best answer without the choice loses more (None: there is no
    such answer), and `fixed` says that it is proven to be no near-optimal one. `losses` holds an
    interval for each variant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    choice: str
    certain: bool
    frequency: float
    frequencies: dict[str, float]
    fixed: bool
    regret: float | None
    losses: dict[str, Interval]


class Uncertainty(BaseModel):
    """Of a solution: losses in the unit of the objective, shares from 0 to 1.

    `measured` is the interval of the summed loss, had the choice been made without looking at the
    scores. `optimism` is how much better the winner looks on the scores that chose it than on fresh
    ones; `expected` is the interval that counts it. `near` is the share above the optimum up to
    which answers are near-optimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float
    basis: str
    sequences: int | None
    resamples: int
    measured: Interval
    optimism: float
    expected: Interval
    near: float
    slots: dict[str, SlotCertainty]
    notes: tuple[str, ...] = ()

    @property
    def certain(self) -> list[str]:
        """The slots whose choice is certain at the confidence."""
        return [slot for slot, found in self.slots.items() if found.certain]

    @property
    def fixed(self) -> list[str]:
        """The slots that all near-optimal answers have in common."""
        return [slot for slot, found in self.slots.items() if found.fixed]


def judge(
    problem: Problem,
    choice: Mapping[str, str],
    noise: Noise,
    scrutiny: Scrutiny | None = None,
    *,
    progress: Progress | None = None,
    time_limit_s: float | None = None,
) -> Uncertainty:
    """Judge `choice`, the optimum of `problem`; `time_limit_s` holds for each of the solves.

    Raises PassError when a solve finds nothing in its time.
    """
    asked, shown = scrutiny or Scrutiny(), progress or SilentProgress()
    resolver = Resolver(problem, time_limit_s=time_limit_s)
    pick = resolver.pick(choice)
    resolver.solve(resolver.losses)
    drawn = replicate(resolver, pick, noise, asked.resamples, asked.seed, shown)
    without = regrets(resolver, pick, shown)
    measured, expected = objective_intervals(noise, pick, drawn, asked.confidence)
    return Uncertainty(
        confidence=asked.confidence,
        basis=noise.basis,
        sequences=noise.sequences,
        resamples=asked.resamples,
        measured=measured,
        optimism=expected.estimate - measured.estimate,
        expected=expected,
        near=NEAR,
        slots=_slots(problem, noise, drawn, without, pick, asked.confidence),
        notes=_notes(noise),
    )


def objective_intervals(
    noise: Noise, pick: Ints, drawn: Replicates, confidence: float
) -> tuple[Interval, Interval]:
    """Of the summed loss of the winner `pick`: as measured, and with its optimism added.

    The standard error is that of a choice made beforehand. Choosing narrows the spread of the
    winner's loss a little, so the second interval is, if anything, too wide.
    """
    spread, loss = noise.spread(pick), float(noise.losses[pick].sum())
    optimism = float(drawn.optimism.mean())
    return (
        Interval.around(loss, spread, confidence),
        Interval.around(loss + optimism, spread, confidence),
    )


def _slots(
    problem: Problem,
    noise: Noise,
    drawn: Replicates,
    without: list[Regret],
    pick: Ints,
    confidence: float,
) -> dict[str, SlotCertainty]:
    allowed = NEAR * abs(float(noise.losses[pick].sum()))
    shares = drawn.shares(len(noise.losses))
    found, begin = {}, 0
    for chosen, regret, (slot, options) in zip(pick, without, problem.slots.items(), strict=True):
        frequencies = {o.variant: float(shares[begin + i]) for i, o in enumerate(options)}
        found[slot] = SlotCertainty(
            choice=options[chosen - begin].variant,
            certain=bool(shares[chosen] >= confidence),
            frequency=float(shares[chosen]),
            frequencies=dict(
                sorted(((v, f) for v, f in frequencies.items() if f > 0), key=lambda item: -item[1])
            ),
            fixed=regret.proven > allowed,
            regret=regret.loss if math.isfinite(regret.loss) else None,
            losses={
                o.variant: Interval.around(
                    o.loss, noise.spread(np.array([begin + i], dtype=np.int64)), confidence
                )
                for i, o in enumerate(options)
            },
        )
        begin += len(options)
    return found


def _notes(noise: Noise) -> tuple[str, ...]:
    if noise.sequences is None or noise.sequences >= _FEW:
        return ()
    return (
        f"all of this rests on {noise.sequences} sequences: intervals are wide for it, but which "
        "slots are certain is a guess below about 10 (data.score_sequences)",
    )
