"""Efficiencies of a device, fitted to tables that were measured on it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hardware_profiles import HardwareProfile
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import ChainShape, Conditions, Phase
from nas.meters._base import Request
from nas.meters._efficiency import (
    FORMS,
    Curve,
    Efficiency,
    Observation,
    Roof,
    cross_validated,
    fit_curve,
    relative_errors,
    root_mean_square,
)
from nas.meters._operators import decoder_work
from nas.meters._table import MeasuredTable

_BANDWIDTH = 0.8
"""Share of the bandwidth that streaming kernels reach, where nothing was measured."""


class Calibration(BaseModel):
    """A curve, and what it was fitted to.

    `hardware`, `dtype`, `threads`: what a target must have in common with it. Errors are relative
    and absolute: `median_error` and `worst_error` on the `points` fitted, `unseen_median_error` and
    `unseen_worst_error` on the same where a cross-validation left each out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    hardware: str
    dtype: str
    threads: int
    runtime: str
    runtime_version: str
    device: str
    curve: Curve
    points: int
    median_error: float
    worst_error: float
    unseen_median_error: float
    unseen_worst_error: float

    def require_target(self, target: TargetConfig, profile: HardwareProfile) -> None:
        """Raise ConfigError naming what the target does not share with the calibration."""
        wanted = {
            "hardware": profile.name,
            "dtype": target.dtype,
            "threads": target.threads or self.threads,
        }
        differing = [
            f"{name} is {getattr(self, name)!r}, target.{name} is {value!r}"
            for name, value in wanted.items()
            if getattr(self, name) != value
        ]
        if differing:
            raise ConfigError(
                f"target.calibration: made under other conditions than the target's: "
                f"{'; '.join(differing)}"
            )

    def conditions(self, target: TargetConfig, phase: Phase) -> Conditions:
        """The conditions of a forecast; its version says what the calibration was measured in."""
        return Conditions(
            phase=phase,
            batch=target.batch,
            prompt_tokens=target.prompt_tokens,
            dtype=self.dtype,
            threads=self.threads,
            runtime="roofline",
            runtime_version=f"calibrated on {self.runtime} {self.runtime_version}",
            device=self.device,
        )


def load_calibration(path: Path) -> Calibration:
    """Raises ConfigError for a file that is not there or not what `nas measure` wrote."""
    try:
        return Calibration.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"target.calibration: {path}: no such file") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"{path}: not a calibration: {where}: {problem['msg']}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a calibration: {error}") from error


def calibrate(
    tables: Sequence[MeasuredTable],
    shape: ChainShape,
    requests: Iterable[Request],
    profile: HardwareProfile,
) -> Calibration:
    """Fit the roofline of `profile` to tables of the blocks of `requests`.

    Tables may differ in batch and prompt and in nothing else. The form of the curve is the one that
    predicts best what a cross-validation left out. Raises ConfigError for tables of unlike
    conditions, of another network, or with blocks that are not among the requests.
    """
    known = {request.key: request for request in requests}
    shared = _shared_conditions(tables)
    observations = [
        observation for table in tables for observation in _observations(table, shape, known)
    ]
    if len(observations) < 2:
        raise ConfigError("a calibration needs at least two measured blocks")
    roof = Roof(
        flops_per_s=profile.peak_flops_per_s(shared.dtype),
        bytes_per_s=profile.bandwidth_bytes_per_s(),
    )
    prior = Efficiency(
        compute=profile.efficiency,
        bandwidth=_BANDWIDTH,
        overhead_us=max(profile.launch_overhead_us, 1e-3),
    )
    unseen = {form: cross_validated(observations, roof, prior, form) for form in FORMS}
    form = min(unseen, key=lambda each: root_mean_square(unseen[each]))
    curve = fit_curve(observations, roof, prior, form)
    errors, left_out = (
        sorted(map(abs, each)) for each in (relative_errors(curve, observations), unseen[form])
    )
    return Calibration(
        hardware=profile.name,
        curve=curve,
        points=len(errors),
        median_error=statistics.median(errors),
        worst_error=errors[-1],
        unseen_median_error=statistics.median(left_out),
        unseen_worst_error=left_out[-1],
        **shared.model_dump(include={"dtype", "threads", "runtime", "runtime_version", "device"}),
    )


def _shared_conditions(tables: Sequence[MeasuredTable]) -> Conditions:
    """What all tables have in common; batch, prompt and phase are left to each."""
    all_of_them = [t.costs.conditions(phase) for t in tables for phase in t.costs.phases]
    if not all_of_them:
        raise ConfigError("a calibration needs a table of measured blocks")
    free = {name: getattr(all_of_them[0], name) for name in ("phase", "batch", "prompt_tokens")}
    first, *rest = [conditions.model_copy(update=free) for conditions in all_of_them]
    for other in rest:
        first.require_same(other)
    return first


def _observations(
    table: MeasuredTable, shape: ChainShape, known: dict[str, Request]
) -> Iterator[Observation]:
    table.require_network(shape)
    strange = sorted(set(table.costs.entries) - known.keys())
    if strange:
        raise ConfigError(
            f"{table.path}: {', '.join(strange[:6])}: no blocks of this run's space; "
            f"calibrate with the run that the table was made for"
        )
    for key, by_phase in table.costs.entries.items():
        for phase, latency in by_phase.items():
            held = latency.conditions
            target = TargetConfig.model_validate(
                held.model_dump(include={"batch", "prompt_tokens", "dtype"})
            )
            request = Request(known[key].part, phase, known[key].spec)
            work = decoder_work(target, shape, request)
            group = f"{key} {phase} {held.batch} {held.prompt_tokens}"
            if latency.median_ms > 0:  # below the noise of a slope there is nothing to fit
                yield Observation(work, latency.median_ms, group)
