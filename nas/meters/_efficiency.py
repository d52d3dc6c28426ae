"""Efficiencies of a roofline fitted to measurements, one set an operator class.

An operator of `f` operations and `m` bytes takes

    max(f / (peak * compute), m / (bandwidth * bandwidth_share)) + overhead

seconds (Williams et al., doi 10.1145/1498765.1498785, with a constant that no size removes), or the
sum of the two terms where a device does not overlap them. With the constant, the share of the roof
that is reached grows with the size of the operator, as it does in measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, PositiveFloat

from nas.errors import ConfigError
from nas.meters._operators import Operator, Work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_PRIOR = 1e-6
"""Weight of the data sheet's figures against one measurement: they decide what nothing measured
does, and a factor of ten in one of them costs as much as a relative error of 0.2 %."""
_FLOOR = 0.01
"""Errors are relative to the measured time, or to this share of the median where that is more."""
_STEPS = 200
_LONGEST = 2.0


class Efficiency(BaseModel):
    """What one class of operators reaches: shares of the roofs (above 1 where a data sheet's figure
    is not the roof, as with caches), and microseconds that each operator takes whatever its size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    compute: PositiveFloat
    bandwidth: PositiveFloat
    overhead_us: PositiveFloat


class Roof(BaseModel):
    """What a data sheet promises: operations and bytes a second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flops_per_s: PositiveFloat
    bytes_per_s: PositiveFloat


class Form(BaseModel):
    """Shape of the curve. `overlap`: the longer of computing and moving counts, not their sum.
    `by_class`: each class of operators has an efficiency of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap: bool = True
    by_class: bool = True

    @property
    def label(self) -> str:
        how = "the longer" if self.overlap else "the sum"
        return f"{how} of computing and moving, {'by class' if self.by_class else 'all alike'}"


FORMS = tuple(Form(overlap=o, by_class=c) for c in (False, True) for o in (True, False))


@dataclass(frozen=True)
class Observation:
    """Milliseconds of some work. Observations of one `group` (repeats of a block, equal graphs) are
    never on both sides of a cross-validation."""

    work: Work
    ms: float
    group: str


class Curve(BaseModel):
    """Efficiencies by operator class under a roof; `otherwise` is that of a class of which nothing
    was measured (None in files of earlier versions)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roof: Roof
    form: Form
    classes: dict[str, Efficiency]
    otherwise: Efficiency | None = None

    def milliseconds(self, work: Work) -> float:
        """Time of the whole work, its operators one after the other. Raises ConfigError for a class
        that the curve does not know."""
        return sum(count * self._operator_ms(operator) for operator, count in work.items())

    def _operator_ms(self, operator: Operator) -> float:
        efficiency = self.classes.get(operator.kind, self.otherwise)
        if efficiency is None:
            raise ConfigError(
                f"the calibration has no efficiency of {operator.kind} operators; make it again "
                f"with nas measure RUN --calibrate"
            )
        computing = operator.flops / (self.roof.flops_per_s * efficiency.compute)
        moving = operator.bytes_moved / (self.roof.bytes_per_s * efficiency.bandwidth)
        longer = max(computing, moving) if self.form.overlap else computing + moving
        return 1e3 * longer + 1e-3 * efficiency.overhead_us


def fit_curve(
    observations: Sequence[Observation], roof: Roof, prior: Efficiency, form: Form
) -> Curve:
    """Least squares on relative errors, by Levenberg and Marquardt in the logarithms.

    Logarithms keep every parameter positive. What no observation depends on, whole classes too,
    stays at `prior`; of a form by class, at what all classes together reach. Raises ValueError
    without observations.
    """
    if form.by_class:
        alike = _Fit(observations, roof, prior, Form(overlap=form.overlap, by_class=False)).curve()
        prior = alike.otherwise or prior
    return _Fit(observations, roof, prior, form).curve()


def cross_validated(
    observations: Sequence[Observation], roof: Roof, prior: Efficiency, form: Form, folds: int = 5
) -> list[float]:
    """Relative errors on groups that a fit has not seen, every observation once.

    Raises ValueError with fewer than two groups.
    """
    groups = sorted({observation.group for observation in observations})
    if len(groups) < 2:
        raise ValueError("cross-validation needs at least two groups of observations")
    fold_of = {group: i % folds for i, group in enumerate(groups)}
    errors: list[float] = []
    for fold in range(min(folds, len(groups))):
        seen = [o for o in observations if fold_of[o.group] != fold]
        rest = [o for o in observations if fold_of[o.group] == fold]
        curve = fit_curve(seen, roof, prior, form)
        errors += relative_errors(curve, rest)
    return errors


def root_mean_square(errors: Sequence[float]) -> float:
    """What the forms of the curve are compared by."""
    return math.sqrt(sum(error**2 for error in errors) / len(errors))


def relative_errors(curve: Curve, observations: Sequence[Observation]) -> list[float]:
    """(predicted - measured) / measured, or / the floor where that is more."""
    import numpy as np

    floor = _FLOOR * float(np.median([o.ms for o in observations]))
    works = {id(o.work): o.work for o in observations}
    predicted = {key: curve.milliseconds(work) for key, work in works.items()}
    return [(predicted[id(o.work)] - o.ms) / max(o.ms, floor) for o in observations]


class _Fit:
    """The arrays of one fit: distinct operators, how often each observation runs them."""

    def __init__(
        self, observations: Sequence[Observation], roof: Roof, prior: Efficiency, form: Form
    ) -> None:
        import numpy as np

        if not observations:
            raise ValueError("nothing to fit: no observations")
        self.np, self.roof, self.prior, self.form = np, roof, prior, form
        works = {id(o.work): o.work for o in observations}  # many share one: hash each but once
        rows = {key: i for i, key in enumerate(works)}
        row_of = [rows[id(o.work)] for o in observations]
        operators = list(dict.fromkeys(operator for work in works.values() for operator in work))
        index = {operator: i for i, operator in enumerate(operators)}
        self.counts = np.zeros((len(rows), len(operators)))
        for i, work in enumerate(works.values()):
            for operator, count in work.items():
                self.counts[i, index[operator]] = count
        self.names = sorted({operator.kind for operator in operators})
        self.sets = len(self.names) if form.by_class else 1
        self.set_of = np.array(
            [self.names.index(o.kind) if form.by_class else 0 for o in operators], dtype=int
        )
        self.ideal = np.array(
            [
                (1e3 * o.flops / roof.flops_per_s, 1e3 * o.bytes_moved / roof.bytes_per_s)
                for o in operators
            ]
        ).reshape(-1, 2)
        self._merge(np.array([o.ms for o in observations]), np.array(row_of))
        self.pull = float(np.sqrt(_PRIOR * len(observations)))
        one = (prior.compute, prior.bandwidth, prior.overhead_us)
        self.start = np.log(np.tile(one, (self.sets, 1)))

    def _merge(self, ms: Floats, row_of: NDArray[np.intp]) -> None:
        """Measurements of one work as one of their summed weight: the same least squares."""
        np = self.np
        weights = 1.0 / np.maximum(ms, _FLOOR * np.median(ms)) ** 2
        summed = np.bincount(row_of, weights)
        self.measured: Floats = np.bincount(row_of, weights * ms) / summed
        self.weights: Floats = np.sqrt(summed)

    def curve(self) -> Curve:
        """The best of a few starts: where computing or moving binds is not a smooth question."""
        np = self.np
        starts = [self.start + np.array(shift) for shift in ((0, 0, 0), (-3, 0, 0), (0, -3, 0))]
        _, found = min((self._descend(start) for start in starts), key=lambda pair: pair[0])
        fitted = [
            Efficiency.model_validate(
                dict(zip(Efficiency.model_fields, map(float, row), strict=True))
            )
            for row in np.exp(found)
        ]
        classes = {name: fitted[i % self.sets] for i, name in enumerate(self.names)}
        otherwise = self.prior if self.form.by_class else fitted[0]
        return Curve(roof=self.roof, form=self.form, classes=classes, otherwise=otherwise)

    def _descend(self, parameters: Floats) -> tuple[float, Floats]:
        np = self.np
        damping, (residuals, jacobian) = 1e-2, self._linearised(parameters)
        loss = float(residuals @ residuals)
        for _ in range(_STEPS):
            normal, slope = jacobian.T @ jacobian, jacobian.T @ residuals
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slope)
            step = np.clip(step, -_LONGEST, _LONGEST).reshape(parameters.shape)
            tried = self._linearised(parameters + step)
            new_loss = float(tried[0] @ tried[0])
            if new_loss < loss:
                small = loss - new_loss < 1e-10 * loss
                parameters, loss, (residuals, jacobian) = parameters + step, new_loss, tried
                damping = max(damping / 3, 1e-9)
                if small:
                    break
            elif damping > 1e9:
                break
            else:
                damping *= 4
        return loss, parameters

    def _linearised(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Residuals and their derivatives by every logarithm, those of the prior last."""
        np = self.np
        compute, bandwidth, overhead = np.exp(parameters)[self.set_of].T
        terms = self.ideal / np.stack([compute, bandwidth], axis=1)
        if self.form.overlap:
            longer = terms.argmax(axis=1)
            terms = terms * (np.arange(2) == longer[:, None])
        constant = 1e-3 * overhead
        by_operator = np.concatenate([-terms, constant[:, None]], axis=1)
        times = terms.sum(axis=1) + constant
        weighted = self.counts * self.weights[:, None]
        residuals = weighted @ times - self.measured * self.weights
        jacobian = np.zeros((len(residuals), self.sets, 3))
        for i in range(self.sets):
            mine = self.set_of == i
            jacobian[:, i] = weighted[:, mine] @ by_operator[mine]
        away = self.pull * (parameters - self.start).reshape(-1)
        return (
            np.concatenate([residuals, away]),
            np.concatenate([jacobian.reshape(len(residuals), -1), self.pull * np.eye(away.size)]),
        )
