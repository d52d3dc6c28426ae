"""The student as a strip of layers, laid out in per cent of each cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nas.ir import (
    BasicConvolution,
    BlockSpec,
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    LinearMap,
    LowRankConvolution,
    Phase,
    Precision,
    Skip,
    SlotKind,
    precision_of,
)
from nas.report._choice import OptionSummary, SlotCertaintySummary, SlotSummary
from nas.report._format import block_in_words, percent, significant
from nas.report.summary import Summary

_PHASES: tuple[Phase, ...] = ("prefill", "decode")
_BITS: dict[Precision, str] = {
    "float": "",
    "float16": "\N{SUBSCRIPT ONE}\N{SUBSCRIPT SIX}",
    "int8": "\N{SUBSCRIPT EIGHT}",
    "int8_dynamic": "\N{SUBSCRIPT EIGHT}",
}


@dataclass(frozen=True)
class Bar:
    """One slot's bar: heights in per cent of the row, `ghost` being the teacher's."""

    style: str
    height: float
    ghost: float
    tip: str


@dataclass(frozen=True)
class Cell:
    """One slot's cell: `style` is the kind of block, `fill` the share kept in per cent. A small 8
    or 16 behind the label: so many bits."""

    style: str
    fill: float
    label: str
    tip: str


@dataclass(frozen=True)
class Row:
    """A row of the strip: one entry a layer, each with one bar a slot."""

    title: str
    scale: str
    bars: tuple[tuple[Bar, ...], ...]


@dataclass(frozen=True)
class Strip:
    """Cells by band (`band_of`) and rows of bars, all in the order of `layers`."""

    layers: tuple[int, ...]
    cells: dict[str, tuple[Cell | None, ...]]
    rows: tuple[Row, ...]
    counts: dict[str, int]


def strip(summary: Summary) -> Strip:
    """The picture of the student."""
    layers = layers_of(summary.slots)
    bands = tuple(dict.fromkeys(band_of(slot.kind) for slot in summary.slots))
    by_place = {(slot.layer, band_of(slot.kind)): slot for slot in summary.slots}
    grid = [[by_place.get((layer, band)) for band in bands] for layer in layers]
    cells = {band: tuple(_cell(slots[index]) for slots in grid) for index, band in enumerate(bands)}
    columns = [[slot for slot in slots if slot] for slots in grid]
    cost_rows = [_cost_row(phase, columns) for phase in _PHASES]
    styles = [block_style(slot.choice.block) for slot in summary.slots]
    return Strip(
        layers=layers,
        cells=cells,
        rows=(*(row for row in cost_rows if row), _loss_row(columns)),
        counts={style: styles.count(style) for style in ("teacher", "narrow", "linear", "skip")},
    )


def band_of(kind: SlotKind) -> str:
    """`attention`, `ffn`, or `blocks`, where a layer has one slot, whatever its stage."""
    return kind if kind in ("attention", "ffn") else "blocks"


def layers_of(slots: Iterable[SlotSummary]) -> tuple[int, ...]:
    """The layers that have a slot, in order."""
    return tuple(sorted({slot.layer for slot in slots}))


def block_style(block: BlockSpec) -> str:
    """Class of a block: `teacher`, `narrow`, `linear` or `skip`."""
    if isinstance(block, KeepTeacher):
        return "teacher"
    if isinstance(block, LinearMap) or block == LowRankConvolution():
        return "linear"
    return "skip" if isinstance(block, Skip) else "narrow"


def _cell(slot: SlotSummary | None) -> Cell | None:
    if slot is None:
        return None
    block, kept = slot.choice.block, slot.choice.kept
    label = ""
    if isinstance(block, GroupedQueryAttention):
        label = str(block.query_heads or block.kv_heads)
    elif isinstance(block, (GatedFeedForward, FeedForward, BasicConvolution)):
        label = f"{100 * kept:.0f}"
    elif block_style(block) == "narrow":
        label = block.label
    label += _BITS[precision_of(block)]
    return Cell(block_style(block), round(100 * kept, 2), label, _tip(slot))


def _tip(slot: SlotSummary) -> str:
    choice, teacher = slot.choice, slot.teacher
    lines = [f"{slot.id}: {choice.variant}", block_in_words(choice.block, choice.kept)]
    for phase in _PHASES:
        now, before = _cost(choice, phase), _cost(teacher, phase)
        if now is not None:
            beside = "" if before is None else f" (teacher {significant(before)})"
            lines.append(f"{phase} {significant(now)} ms{beside}")
    lines.append(loss_in_words(choice))
    if slot.certainty is not None:
        lines.append(_certainty_in_words(slot.certainty))
    return "\n".join(lines)


def _certainty_in_words(found: SlotCertaintySummary) -> str:
    """How often the block is chosen, and what going without it would lose."""
    often = f"in {percent(found.frequency, 0)} of draws"
    if found.regret is None:
        return f"{often}; no student within the budgets goes without"
    return f"{often}; without it {significant(found.regret, 2)} more"


def _cost(option: OptionSummary | None, phase: Phase) -> float | None:
    if option is None:
        return None
    return option.prefill_ms if phase == "prefill" else option.decode_ms


def loss_in_words(option: OptionSummary) -> str:
    """The loss of an option with its standard error."""
    error = "" if option.loss_stderr is None else f" \N{PLUS-MINUS SIGN} {option.loss_stderr:.2g}"
    return f"loss {significant(option.loss)}{error}"


def _cost_row(phase: Phase, columns: list[list[SlotSummary]]) -> Row | None:
    """Milliseconds of each slot in front of the teacher's; None if the phase was not measured."""
    slots = [slot for column in columns for slot in column]
    if all(_cost(slot.choice, phase) is None for slot in slots):
        return None

    def height(option: OptionSummary | None) -> float:
        return max(0.0, _cost(option, phase) or 0.0)

    top = max(max(height(slot.choice), height(slot.teacher)) for slot in slots) or 1.0

    def bar(slot: SlotSummary) -> Bar:
        now, before = _share(height(slot.choice), top), _share(height(slot.teacher), top)
        return Bar(block_style(slot.choice.block), now, before, _tip(slot))

    title = "Prefill time" if phase == "prefill" else "Decode time, one token"
    bars = tuple(tuple(bar(slot) for slot in column) for column in columns)
    return Row(title, f"full height {significant(top, 2)} ms", bars)


def _loss_row(columns: list[list[SlotSummary]]) -> Row:
    top = max(max(0.0, slot.choice.loss) for column in columns for slot in column) or 1.0

    def bar(slot: SlotSummary) -> Bar:
        return Bar("loss", _share(max(0.0, slot.choice.loss), top), 0.0, _tip(slot))

    bars = tuple(tuple(bar(slot) for slot in column) for column in columns)
    return Row("Loss", f"full height {significant(top, 2)}", bars)


def _share(value: float, top: float) -> float:
    return round(100 * value / top, 2)
