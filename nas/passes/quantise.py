"""Quantise: blocks that round, each from the float block of the same structure.

That block is finished by then (closed form, local distillation), and nothing is trained again: what
rounding costs is in the scores. The teacher's own block is one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nas.blocks import Built, SlotData, build_block, settle_on_levels
from nas.ir import BlockSpec, Candidate, ChainShape, KeepTeacher, in_float, precision_of
from nas.passes.distill_blocks import Trained


def is_quantised(candidate: Candidate) -> bool:
    return precision_of(candidate.spec) != "float"


def float_sources(shape: ChainShape, candidates: Iterable[Candidate]) -> list[Candidate]:
    """The float candidates that some of `candidates` are made from, and that are not among them;
    the teacher's own block is there already."""
    given = list(candidates)
    wanted = {
        c.model_copy(update={"spec": in_float(c.spec)}): None for c in given if is_quantised(c)
    }
    return [c for c in wanted if c not in given and not _is_teacher(shape, c)]


def _is_teacher(shape: ChainShape, candidate: Candidate) -> bool:
    return candidate.spec == shape.resolve(candidate.slot, KeepTeacher())


def quantised(data: SlotData, spec: BlockSpec, sources: Mapping[BlockSpec, Built]) -> Built:
    """The block of `spec` with the weights of the float block of its structure, rounded, and its
    own held-out error. `sources`: blocks by specification; the teacher's own need not be there."""
    source = sources.get(in_float(spec))
    weights = data.teacher if source is None else source.block
    block = build_block(data.shape, data.slot_kind, spec)
    assert block is not None
    assert weights is not None
    block.load_state_dict(weights.state_dict())
    block.to(data.x.device).eval().requires_grad_(False)
    settle_on_levels(block)
    return Built(spec, block, data.error(block), 0.0 if source is None else source.sliced_error)


def finished_quantised(
    data: SlotData, spec: BlockSpec, sources: Mapping[BlockSpec, Built]
) -> Trained:
    """As `quantised`, as the build keeps it."""
    built = quantised(data, spec, sources)
    return Trained(built, built.error, None, "quantised")
