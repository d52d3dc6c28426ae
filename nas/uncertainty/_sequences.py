"""Noise from per-sequence scores: all candidates saw the same sequences, so they err together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas.errors import ArtifactError, ConfigError
from nas.ir.problem import Problem
from nas.uncertainty._base import Floats, Ints, Noise, Spread

_ROUNDING = 1e-6

Scores = Mapping[str, Sequence[float] | npt.NDArray[np.floating]]


class SequenceNoise(Noise):
    """Sequences drawn anew with replacement, the same ones for every option (paired bootstrap).

    Of n sequences n - 1 are drawn, so that the variance is that of a mean of n also for few
    sequences (Rao and Wu, JASA 1988). The spread of a sum is that of the sums of single sequences,
    which counts all covariances.
    """

    def __init__(self, problem: Problem, scores: Scores) -> None:
        """`scores`: `slot/variant` to one loss a sequence, in nats.

        An option without scores is known exactly, as the teacher's own block. Raises ArtifactError
        where scores disagree with each other or with a loss, ConfigError for a single sequence.
        """
        super().__init__(problem)
        rows = _side_by_side(problem, scores)
        self._deviations = rows - rows.mean(axis=0)
        self._count = self.sequences = len(rows)
        self.basis = f"{self._count} scoring sequences"

    def draws(self, count: int, generator: np.random.Generator) -> Floats:
        drawn = self._count - 1
        share = np.full(self._count, 1 / self._count)
        weights = generator.multinomial(drawn, share, size=count) / drawn
        return np.asarray(self.losses + weights @ self._deviations, dtype=np.float64)

    def spread(self, options: Ints) -> Spread:
        sums = self._deviations[:, options].sum(axis=1)
        error = float(np.std(sums, ddof=1)) / self._count**0.5
        return Spread(error, self._count - 1)


def fault_in_scores(scores: Scores, losses: Mapping[str, float]) -> str | None:
    """The first of `scores` that has not as many sequences as most, or not the mean that `losses`
    (by the same `slot/variant`) has; None where they agree."""
    lengths = {name: len(values) for name, values in scores.items()}
    usual = max(Counter(lengths.values()).items(), key=lambda item: item[1], default=(0, 0))[0]
    for name, length in lengths.items():
        if length != usual:
            return (
                f"scores of {name}: length {length}, of others {usual}; every candidate needs one "
                "value for each of the same sequences"
            )
    for name in (name for name in scores if usual and name in losses):
        values, loss = np.asarray(scores[name], dtype=np.float64), losses[name]
        with np.errstate(over="ignore"):  # an infinite mean is no loss, either
            mean = float(values.mean())
        if not abs(mean - loss) <= _ROUNDING * np.abs(values).max():
            return (
                f"scores of {name}: their mean is {mean:g}, its loss {loss:g}; "
                "write both from one measurement"
            )
    return None


def _side_by_side(problem: Problem, scores: Scores) -> Floats:
    """[sequences, options]"""
    options = {
        f"{slot}/{o.variant}": o.loss for slot, group in problem.slots.items() for o in group
    }
    fault = fault_in_scores(scores, options) if scores else "scores: no candidate has any"
    if fault is not None:
        raise ArtifactError(fault)
    count = len(next(iter(scores.values())))
    if count < 2:
        raise ConfigError(
            f"{count} scoring sequence says nothing about spread; score on more "
            "(data.score_sequences), or state the noise of a library with --noise"
        )
    columns = [
        np.asarray(scores.get(name, np.full(count, loss)), dtype=np.float64)
        for name, loss in options.items()
    ]
    return np.stack(columns, axis=1)
