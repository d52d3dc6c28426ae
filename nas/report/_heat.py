"""What was on offer: the loss of every option, by variant and layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from nas.ir import KeepTeacher, SlotKind
from nas.report._choice import SlotSummary
from nas.report._strip import block_style, layers_of, loss_in_words
from nas.report.summary import Summary

_ORDER = ("teacher", "narrow", "linear", "skip")
_DECADES = 5
"""The loss heat map spans at most so many powers of ten."""


@dataclass(frozen=True)
class HeatCell:
    heat: float
    chosen: bool
    tip: str


@dataclass(frozen=True)
class HeatMap:
    """Rows are variants, columns layers; `heat` is 0 to 100 on a logarithmic scale of the loss."""

    kind: SlotKind
    layers: tuple[int, ...]
    rows: tuple[tuple[str, tuple[HeatCell | None, ...]], ...]
    low: float
    high: float


def heat_maps(summary: Summary) -> tuple[HeatMap, ...]:
    """One map for each slot kind that had a choice at all."""
    kinds = dict.fromkeys(slot.kind for slot in summary.slots)
    maps = [_heat_map(kind, summary.slots) for kind in kinds]
    return tuple(m for m in maps if m)


def _heat_map(kind: SlotKind, slots: Iterable[SlotSummary]) -> HeatMap | None:
    mine = {slot.layer: slot for slot in slots if slot.kind == kind}
    options = [option for slot in mine.values() for option in slot.options]
    losses = [o.loss for o in options if o.loss > 0 and not isinstance(o.block, KeepTeacher)]
    if not losses:
        return None
    high = max(losses)
    low = max(min(losses), high / 10**_DECADES)
    options.sort(key=lambda o: (_ORDER.index(block_style(o.block)), -o.kept))
    layers = layers_of(mine.values())
    rows = tuple(
        (name, tuple(_heat_cell(mine[layer], name, low, high) for layer in layers))
        for name in dict.fromkeys(option.variant for option in options)
    )
    return HeatMap(kind, layers, rows, low, high)


def _heat_cell(slot: SlotSummary, variant: str, low: float, high: float) -> HeatCell | None:
    option = next((o for o in slot.options if o.variant == variant), None)
    if option is None:
        return None
    chosen = variant == slot.chosen
    tip = f"{slot.id}: {variant}{' (chosen)' if chosen else ''}\n{loss_in_words(option)}"
    if option.loss <= 0:
        return HeatCell(0.0, chosen, tip)
    span = math.log(high / low) or 1.0
    heat = 100 * math.log(min(high, max(option.loss, low)) / low) / span
    return HeatCell(round(4 + 0.96 * heat, 1), chosen, tip)
