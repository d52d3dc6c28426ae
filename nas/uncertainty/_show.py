"""Uncertainty as lines, and as a table of the slots that are in doubt."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType

from nas._tables import table
from nas._words import number
from nas.uncertainty._interval import Interval
from nas.uncertainty._judge import SlotCertainty, Uncertainty

_TITLE = "slots in doubt (share: of draws; regret: loss that the best answer without it adds)"


def uncertainty_tables(found: Uncertainty) -> Iterable[RenderableType]:
    """What the loss is on fresh text, how many slots are certain, and each one that is not."""
    share = f"{100 * found.confidence:g} %"
    yield f"{share} confidence, by {found.basis} and {found.resamples} solves of losses drawn anew"
    yield f"  measured loss of the choice: {_interval(found.measured)}"
    yield f"  it looks better than on fresh text by: {number(found.optimism)}"
    yield f"  loss to expect: {_interval(found.expected)}"
    count = len(found.slots)
    yield f"  certain: {len(found.certain)} of {count} slots have their block in {share} of draws"
    yield (
        f"  fixed: {len(found.fixed)} of {count} slots have the same block in every answer within "
        f"{100 * found.near:g} % of the optimum"
    )
    yield from (f"  note: {note}" for note in found.notes)
    doubtful = {slot: each for slot, each in found.slots.items() if not each.certain}
    if doubtful:
        columns = ("slot", "choice", "share", "rival", "its share", "regret", "fixed")
        rows = [_row(slot, each) for slot, each in doubtful.items()]
        yield table(_TITLE, columns, rows, right=("share", "its share", "regret"), whole=("slot",))


def _row(slot: str, found: SlotCertainty) -> tuple[object, ...]:
    others = [(v, share) for v, share in found.frequencies.items() if v != found.choice]
    other, share = others[0] if others else (None, None)
    return (
        slot,
        found.choice,
        _percent(found.frequency),
        other,
        None if share is None else _percent(share),
        None if found.regret is None else number(found.regret),
        "yes" if found.fixed else "no",
    )


def _interval(found: Interval) -> str:
    return f"{number(found.estimate)} ({number(found.low)} to {number(found.high)})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
