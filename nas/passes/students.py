"""Students: assembled architectures, distilled."""

from __future__ import annotations

from collections.abc import Mapping

from nas.chain import Chain
from nas.ir import Architecture
from nas.passes._context import PassContext
from nas.passes.assemble import assembled
from nas.passes.distill import distill, load_distilled
from nas.run import content_key


def distill_students(
    context: PassContext,
    architectures: Mapping[str, Architecture],
    assembled_keys: Mapping[str, str],
) -> dict[str, str]:
    """Make sure that every student is distilled; returns the unit keys."""
    config = context.config
    keys = {
        name: content_key("distill", assembled_keys[name], config.distill, config.seed)
        for name in architectures
    }
    missing = [n for n in architectures if not context.run.fetch(f"distill/{n}", keys[n])]
    if missing:
        students = {name: assembled(context, name, architectures[name]) for name in missing}
        distill(context, students, {name: keys[name] for name in missing})
    return keys


def distilled(context: PassContext, name: str, architecture: Architecture) -> Chain:
    """A student after distillation, read back from the run."""
    return load_distilled(context, name, assembled(context, name, architecture))
