"""Students: assembled architectures, distilled."""

from __future__ import annotations

from collections.abc import Mapping

from nas.chain import Chain
from nas.ir import Architecture
from nas.passes._context import PassContext
from nas.passes.assemble import assembled
from nas.passes.distill import distill, load_distilled
from nas.run import content_key
from nas.sharding import Task


def distill_students(
    context: PassContext,
    architectures: Mapping[str, Architecture],
    assembled_keys: Mapping[str, str],
) -> dict[str, str]:
    """Make sure that every student is distilled; returns the unit keys."""
    config = context.config
    # How often the state is written changes no weight.
    learnt = config.distill.model_dump(mode="json", exclude={"checkpoint_every"})
    keys = {
        name: content_key("distill", assembled_keys[name], learnt, config.seed)
        for name in architectures
    }
    missing = [n for n in architectures if not context.run.fetch(f"distill/{n}", keys[n])]
    if missing:
        context.text  # noqa: B018  # the other ranks read it and write nothing
        task = {
            "architectures": {n: architectures[n].model_dump(mode="json") for n in missing},
            "keys": {name: keys[name] for name in missing},
            "device": config.teacher.device,
        }
        context.ranks.announce(task)
        _distill(context, task)
    return keys


def take_part(context: PassContext) -> None:
    """On a rank that is not the first: distil with it until it has finished."""
    while (task := context.ranks.next_task()) is not None:
        _distill(context, task)


def _distill(context: PassContext, task: Task) -> None:
    architectures = {n: Architecture.model_validate(a) for n, a in task["architectures"].items()}
    students = {name: assembled(context, name, a) for name, a in architectures.items()}
    distill(context, students, task["keys"])


def distilled(context: PassContext, name: str, architecture: Architecture) -> Chain:
    """A student after distillation, read back from the run."""
    return load_distilled(context, name, assembled(context, name, architecture))
