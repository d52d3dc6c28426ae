"""Students: architectures assembled from the library and distilled."""

from __future__ import annotations

from collections.abc import Mapping

from nas.chain import DecoderChain
from nas.ir import Architecture
from nas.passes._context import PassContext
from nas.passes.build import assemble
from nas.passes.distill import distill, load_distilled
from nas.run import content_key


def student_keys(
    context: PassContext, architectures: Mapping[str, Architecture], block_keys: Mapping[str, str]
) -> dict[str, str]:
    """Unit key of each distilled student: its blocks, the text and the distillation."""
    config = context.config
    shared = (context.data_key, config.distill, config.seed)
    keys = {}
    for name, architecture in architectures.items():
        blocks = {
            f"{slot}/{spec.label}": block_keys.get(f"{slot}/{spec.label}", spec.label)
            for slot, spec in architecture.choices.items()
        }
        keys[name] = content_key("distill", *shared, blocks)
    return keys


def distill_students(
    context: PassContext, architectures: Mapping[str, Architecture], block_keys: Mapping[str, str]
) -> dict[str, str]:
    """Make sure that every student is distilled; returns the unit keys."""
    keys = student_keys(context, architectures, block_keys)
    missing = [n for n in architectures if not context.run.fetch(f"distill/{n}", keys[n])]
    if missing:
        students = {name: assembled(context, architectures[name]) for name in missing}
        distill(context, students, {name: keys[name] for name in missing})
    return keys


def assembled(context: PassContext, architecture: Architecture) -> DecoderChain:
    """A student before distillation. Parts that will not be trained are the teacher's own."""
    teacher = context.teacher.chain
    student = assemble(teacher, architecture, context.run.root)
    same = teacher.embed.weight.dtype == student.embed.weight.dtype
    if same and not context.config.distill.train_embeddings:
        student.embed.weight = teacher.embed.weight
        student.head.weight = teacher.head.weight
    return student


def distilled(context: PassContext, name: str, architecture: Architecture) -> DecoderChain:
    """A student after distillation, read back from the run."""
    return load_distilled(context, name, assembled(context, architecture))
