"""From the teacher's time to the student's, change by change."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from nas.ir import Architecture, ChainShape, Phase
from nas.profiling._layers import NetworkLayers

UNCHANGED = "blocks that are the same"
OUTSIDE = "outside the slots"


class Step(BaseModel):
    """What one kind of change saved (< 0) or cost, in `slots` slots; `after_ms` is the height that
    it leaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    change: str
    slots: int
    ms: float
    after_ms: float


class LayerProfile(BaseModel):
    """Teacher and student in one phase, and what turned the one's time into the other's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Phase
    teacher: NetworkLayers
    student: NetworkLayers
    steps: tuple[Step, ...]


class LayerProfiles(BaseModel):
    """One of each phase; none where nothing was exported to ONNX or measured with its runtime."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phases: tuple[LayerProfile, ...] = ()


def waterfall(
    teacher: NetworkLayers, student: NetworkLayers, shape: ChainShape, chosen: Architecture
) -> tuple[Step, ...]:
    """Steps whose sum is the student's time less the teacher's: each kind of new block, the largest
    saving first, then blocks that both have (what the clock alone changed) and all outside the
    slots, layers that a runtime fused across slots among it."""
    changes: dict[str, tuple[int, float]] = {}
    inside = 0.0
    for slot, spec in chosen.items(shape):
        old, new = teacher.of(slot.id), student.of(slot.id)
        before, after = (one.ms if one else 0.0 for one in (old, new))
        same = shape.resolve(slot, spec) == shape.resolve(slot, Architecture().spec(slot))
        what = UNCHANGED if same else f"{slot.kind}: {spec.label}"
        count, ms = changes.get(what, (0, 0.0))
        changes[what] = count + 1, ms + after - before
        inside += after - before
    outside = student.ms - teacher.ms - inside
    ordered = sorted(
        ((what, *rest) for what, rest in changes.items() if what != UNCHANGED),
        key=lambda change: change[2],
    )
    rows = [*ordered, (UNCHANGED, *changes.get(UNCHANGED, (0, 0.0))), (OUTSIDE, 0, outside)]
    height, steps = teacher.ms, []
    for what, slots, ms in rows:
        height += ms
        steps.append(Step(change=what, slots=slots, ms=ms, after_ms=height))
    return tuple(steps)
