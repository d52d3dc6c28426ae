"""Space: every candidate of every slot, and the shapes that only baselines need."""

from __future__ import annotations

from nas.ir import Candidate, as_transformer
from nas.passes._context import PassContext
from nas.run import content_key, json_writer
from search_spaces import load_space


def candidates(context: PassContext) -> tuple[Candidate, ...]:
    """The candidates of the run, without the teacher's own blocks."""
    space, shape = load_space(context.config.space), context.shape
    found = space.candidates(shape, context.width_multiple)
    key = content_key("space", context.teacher_key, space, context.width_multiple)
    if context.run.fetch("space", key) is None:
        listing = {"candidates": [c.model_dump(mode="json") for c in found]}
        context.run.store(
            "space", key, {"space.json": json_writer(listing)}, {"candidates": len(found)}
        )
    return found


def uniform_candidates(context: PassContext, width: int) -> tuple[Candidate, ...]:
    """The same narrower feed-forward in every layer."""
    return tuple(
        Candidate(slot=slot, spec=as_transformer(context.shape).ffn(width))
        for slot in context.shape.slots()
        if slot.kind == "ffn"
    )
