"""Geometry of the two charts: the distillation curve, and KL before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.report._format import fixed
from nas.report._models import ModelSummary
from nas.report._words import model_title
from nas.report.summary import Summary


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in per cent of its length."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A polyline in a plot of 1000 by 1000, y downwards; `style` numbers the line."""

    name: str
    style: str
    points: str
    first: float
    last: float


@dataclass(frozen=True)
class Curves:
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Dumbbell:
    """KL of a model: places in per cent of the axis. `before` is None without distillation."""

    name: str
    style: str
    before: float | None
    after: float
    before_nats: float | None
    after_nats: float
    stderr_nats: float | None


@dataclass(frozen=True)
class Dumbbells:
    rows: tuple[Dumbbell, ...]
    ticks: tuple[Tick, ...]


def curves(summary: Summary) -> Curves | None:
    """Training loss over steps of every model that was distilled; None if none has a curve."""
    found = [
        (model, model.distillation)
        for model in summary.models
        if model.distillation and len(model.distillation.curve_steps) > 1
    ]
    if not found:
        return None
    xs = [x for _, d in found for x in d.curve_steps]
    ys = [y for _, d in found for y in d.curve_losses]
    x_axis, y_axis = _nice_axis(min(xs), max(xs), 5), _nice_axis(min(ys), max(ys), 4)
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = y_axis[0], y_axis[-1]
    lines = tuple(
        Line(
            name=model_title(model),
            style=_style(model, index),
            points=" ".join(
                f"{1000 * (x - x_low) / (x_high - x_low):.1f},"
                f"{1000 * (y_high - y) / (y_high - y_low):.1f}"
                for x, y in zip(d.curve_steps, d.curve_losses, strict=True)
            ),
            first=d.curve_losses[0],
            last=d.curve_losses[-1],
        )
        for index, (model, d) in enumerate(found)
    )
    return Curves(
        lines,
        _ticks([x for x in x_axis if x_low <= x <= x_high], x_low, x_high),
        _ticks(y_axis, y_low, y_high),
    )


def dumbbells(summary: Summary) -> Dumbbells | None:
    """Held-out KL of the student and the baselines, before and after distillation."""
    found = [
        (model, model.quality) for model in (summary.student, *summary.baselines) if model.quality
    ]
    if not found:
        return None
    before = [model.quality_before.distance for model, _ in found if model.quality_before]
    axis = _nice_axis(0.0, max([*before, *(q.distance for _, q in found)]), 5)
    top = axis[-1]
    rows = tuple(
        Dumbbell(
            name=model_title(model),
            style=_style(model, index),
            before=100 * model.quality_before.distance / top if model.quality_before else None,
            after=100 * quality.distance / top,
            before_nats=model.quality_before.distance if model.quality_before else None,
            after_nats=quality.distance,
            stderr_nats=quality.distance_stderr,
        )
        for index, (model, quality) in enumerate(found)
    )
    return Dumbbells(rows, _ticks(axis, 0.0, top))


def _style(model: ModelSummary, index: int) -> str:
    return "student" if model.role == "student" else f"other{index % 3}"


def _ticks(values: list[float], low: float, high: float) -> tuple[Tick, ...]:
    """Ticks with as many places as the finest of them needs."""
    places = max((len(f"{value:g}".partition(".")[2]) for value in values), default=0)
    return tuple(
        Tick(round(100 * (value - low) / (high - low), 3), fixed(value, places)) for value in values
    )


def _nice_axis(low: float, high: float, about: int) -> list[float]:
    """Ticks at steps of 1, 2 or 5 times a power of ten that enclose [low, high]."""
    span = high - low or max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * about >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [round(index * step, 12) for index in range(first, last + 1)]
