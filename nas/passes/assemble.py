"""Assemble: blocks of the library in the teacher's place, refitted to what comes before them.

The refit is kept where the KL of the whole network on the scoring text, which it has not seen,
falls; else the student is what the library's blocks make it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas.chain import Chain, make_chain
from nas.errors import PassError
from nas.ir import Architecture, KeepTeacher
from nas.passes._context import PassContext
from nas.passes.build import load_block
from nas.passes.refit import refit
from nas.passes.score import scoring_copy
from nas.run import content_key


def assemble_students(
    context: PassContext, architectures: Mapping[str, Architecture], block_keys: Mapping[str, str]
) -> dict[str, str]:
    """Refit every student that has not been; returns the key of each assembled student."""
    keys = _keys(context, architectures, block_keys)
    if context.config.assemble.refit_tokens == 0:
        return keys
    missing = [n for n in architectures if not context.run.fetch(f"assemble/{n}", keys[n])]
    if missing:
        _refit(context, {name: architectures[name] for name in missing}, keys)
    return keys


def assembled(context: PassContext, name: str, architecture: Architecture) -> Chain:
    """A student before distillation. Parts that will not be trained are the teacher's own."""
    student = _from_library(context, architecture)
    if context.config.assemble.refit_tokens:
        record = context.run.require(f"assemble/{name}")
        if record.data["kept"]:
            path = _path(context, name)
            _, unexpected = student.load_state_dict(load_file(path), strict=False)
            if unexpected:
                raise PassError(f"{path} does not fit the student: {unexpected[:3]}")
    return student


def assemble(teacher: Chain, architecture: Architecture, run_folder: Path) -> Chain:
    """A student: the teacher's parts with the library's blocks swapped in. Weights are copies."""
    device = str(teacher.device)
    student = make_chain(teacher.shape, architecture).to(device)
    weights = teacher.whole().state_dict()
    own = student.state_dict()
    student.load_state_dict(
        {name: weights[name] if _inherited(name, weights, own) else own[name] for name in own}
    )
    for k, (slot, spec) in enumerate(architecture.items(teacher.shape)):
        if not isinstance(spec, KeepTeacher):
            student.slot(k).branch = load_block(run_folder, teacher.shape, slot, spec, device)
    return student.eval().requires_grad_(False)


def _inherited(name: str, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    return name in weights and weights[name].shape == own[name].shape


def _from_library(context: PassContext, architecture: Architecture) -> Chain:
    teacher = context.teacher.chain
    student = assemble(teacher, architecture, context.run.root)
    if teacher.dtype == student.dtype and not context.config.distill.train_embeddings:
        student.share_outside(teacher)
    return student


def _keys(
    context: PassContext, architectures: Mapping[str, Architecture], block_keys: Mapping[str, str]
) -> dict[str, str]:
    """A student depends on its blocks, the text and the refit."""
    config, keys = context.config.assemble, {}
    refitted = config if config.refit_tokens else None
    for name, architecture in architectures.items():
        blocks = {
            f"{slot}/{spec.label}": block_keys.get(f"{slot}/{spec.label}", spec.label)
            for slot, spec in architecture.choices.items()
        }
        keys[name] = content_key("assemble", context.goal_key, refitted, blocks)
    return keys


def _refit(
    context: PassContext, architectures: Mapping[str, Architecture], keys: Mapping[str, str]
) -> None:
    started, config = time.perf_counter(), context.config.assemble
    teacher, train = context.teacher.chain, context.text.train
    students = {name: _from_library(context, a) for name, a in architectures.items()}
    before = _divergences(context, students)
    windows = train[: max(1, config.refit_tokens // train.shape[1])]
    with context.progress.task("refit", len(teacher.slots)) as advance:
        refit(teacher, students, windows, config.ridge, advance)
    after = _divergences(context, students)
    share = (time.perf_counter() - started) / len(students)
    measure = "KL" if context.shape.language else "distance"
    for name, student in students.items():
        kept = after[name] < before[name]
        layers = _output_layers(student) if kept else {}
        data = {"kl_from_library": before[name], "kl_refitted": after[name], "kept": kept}
        path = _path(context, name).relative_to(context.run.root)
        files = {str(path): lambda file, layers=layers: save_file(layers, file)}
        context.run.store(f"assemble/{name}", keys[name], files if kept else {}, data, share)
        context.progress.say(
            f"{name}: {measure} {before[name]:.3f} from the library, {after[name]:.3f} refitted"
        )


@torch.no_grad()
def _divergences(context: PassContext, chains: Mapping[str, Chain]) -> dict[str, float]:
    """KL of whole networks on the scoring text."""
    teacher = scoring_copy(context.teacher.chain)
    ids = context.text.score.to(teacher.device)
    pieces = ids.split(context.config.score.batch_sequences)
    divergence = context.objective(teacher).divergence(_last_hidden(teacher, pieces))
    return {
        name: float(divergence(_last_hidden(scoring_copy(chain), pieces)).mean())
        for name, chain in chains.items()
    }


def _last_hidden(chain: Chain, pieces: Sequence[Tensor]) -> Tensor:
    states = [chain.run(chain.embed_tokens(ids), chain.context(ids)) for ids in pieces]
    return chain.exact_hidden(torch.cat(states))


def _output_layers(student: Chain) -> dict[str, Tensor]:
    """The weights that a refit changes, under their names in the student."""
    changed = {
        id(parameter)
        for k in range(len(student.slots))
        if (branch := student.slot(k).branch) is not None
        for parameter in branch.output_layer.parameters()
    }
    named = student.state_dict(keep_vars=True).items()
    return {name: value.detach() for name, value in named if id(value) in changed}


def _path(context: PassContext, name: str) -> Path:
    return context.run.path("students", name, "refit.safetensors")
