"""Assemble: blocks of the library in the teacher's place, refitted to what comes before them.

Before the refit, pairs of a layer may learn together (`nas.passes.couple`). Each of the two is kept
where the KL of the whole network on the scoring text, which it has not seen, falls; else the
student is what the library's blocks make it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas.chain import Chain, make_chain
from nas.data import tokens_a_sample
from nas.errors import PassError
from nas.ir import Architecture, KeepTeacher
from nas.passes._context import PassContext
from nas.passes.build import load_block
from nas.passes.couple import Coupled, couple, pairs
from nas.passes.refit import refit
from nas.passes.score import scoring_copy
from nas.run import Writer, content_key


def assemble_students(
    context: PassContext, architectures: Mapping[str, Architecture], block_keys: Mapping[str, str]
) -> dict[str, str]:
    """Couple and refit every student that has not been; returns the key of each assembled
    student."""
    keys = _keys(context, architectures, block_keys)
    if not context.config.assemble.changes_blocks:
        return keys
    missing = [n for n in architectures if not context.run.fetch(f"assemble/{n}", keys[n])]
    if missing:
        _change(context, {name: architectures[name] for name in missing}, keys)
    return keys


def assembled(context: PassContext, name: str, architecture: Architecture) -> Chain:
    """A student before distillation. Parts that will not be trained are the teacher's own."""
    student = _from_library(context, architecture)
    if context.config.assemble.changes_blocks:
        data = context.run.require(f"assemble/{name}").data
        if data.get("coupled", {}).get("kept"):
            _fill(student, _path(context, name, "coupled"))
        if data["kept"]:
            _fill(student, _path(context, name))
    return student


def _fill(student: Chain, path: Path) -> None:
    _, unexpected = student.load_state_dict(load_file(path), strict=False)
    if unexpected:
        raise PassError(f"{path} does not fit the student: {unexpected[:3]}")


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
    refitted = {"refit_tokens": config.refit_tokens, "ridge": config.ridge}
    coupled = ("coupled", config, context.config.build, context.config.seed)
    parts = (refitted if config.refit_tokens else None, *(coupled if config.couple_epochs else ()))
    for name, architecture in architectures.items():
        blocks = {
            f"{slot}/{spec.label}": block_keys.get(f"{slot}/{spec.label}", spec.label)
            for slot, spec in architecture.choices.items()
        }
        keys[name] = content_key("assemble", context.goal_key, *parts, blocks)
    return keys


def _change(
    context: PassContext, architectures: Mapping[str, Architecture], keys: Mapping[str, str]
) -> None:
    started, config = time.perf_counter(), context.config.assemble
    students = {name: _from_library(context, a) for name, a in architectures.items()}
    first = _divergences(context, students)
    coupled = _couple(context, students, first) if config.couple_epochs else {}
    before = {name: coupled[name]["kl"] if _kept(coupled, name) else first[name] for name in first}
    if config.refit_tokens:
        _refit(context, students)
        after = _divergences(context, students)
    else:
        after = before
    share = (time.perf_counter() - started) / len(students)
    measure = context.objective(context.teacher.chain).measure
    for name, student in students.items():
        kept = after[name] < before[name]
        data: dict[str, Any] = {
            "kl_from_library": first[name],
            "kl_refitted": after[name],
            "kept": kept,
        }
        files = _files(context, name, student) if kept else {}
        if coupled:
            about = coupled[name]
            files |= about.pop("files")
            data["coupled"] = about
        context.run.store(f"assemble/{name}", keys[name], files, data, share)
        words = [f"{first[name]:.3f} from the library"]
        words += [f"{data['coupled']['kl']:.3f} with pairs trained together"] if coupled else []
        words += [f"{after[name]:.3f} refitted"] if config.refit_tokens else []
        context.progress.say(f"{name}: {measure} {', '.join(words)}")


def _kept(coupled: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return name in coupled and bool(coupled[name]["kept"])


def _refit(context: PassContext, students: Mapping[str, Chain]) -> None:
    teacher, config = context.teacher.chain, context.config.assemble
    windows = _windows(context, config.refit_tokens)
    with context.progress.task("refit", len(teacher.slots)) as advance:
        refit(teacher, students, windows, config.ridge, advance)


def _windows(context: PassContext, tokens: int) -> Tensor:
    train = context.text.train
    return train[: max(1, tokens // tokens_a_sample(train))]


def _couple(
    context: PassContext, students: Mapping[str, Chain], before: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Train the pairs of students that have some, in place; what is known of each student, and the
    `files` of what was kept."""
    teacher, config = context.teacher.chain, context.config.assemble
    shape = teacher.shape
    able = {name: s for name, s in students.items() if any(pairs(shape, s.architecture))}
    apart = {name: copy.deepcopy(_branches(student)) for name, student in able.items()}
    windows = _windows(context, config.couple_tokens)
    found: dict[str, list[Coupled]] = {}
    if able and len(windows) > 1:
        with context.progress.task("couple", len(teacher.slots)) as advance:
            build, seed = context.config.build, context.config.seed
            found = couple(teacher, able, windows, config, build, seed, advance)
    after = {**before} | _divergences(context, {name: students[name] for name in found})
    known: dict[str, dict[str, Any]] = {}
    for name, student in students.items():
        kept = after[name] < before[name]
        layers = [vars(c) for c in found.get(name, ())]
        known[name] = {"kl": after[name], "kept": kept, "layers": layers, "files": {}}
        if kept:
            weights = _changed(student, apart[name])
            path = str(_path(context, name, "coupled").relative_to(context.run.root))
            known[name]["files"] = {path: lambda file, w=weights: save_file(w, file)}
        elif name in apart:
            _put_back(student, apart[name])
    return known


def _branches(student: Chain) -> dict[str, Tensor]:
    """The weights of the blocks of all pairs, under their names in the student."""
    numbers = [k + i for k in pairs(student.shape, student.architecture) for i in (0, 1)]
    prefixes = tuple(f"slots.{k}.branch." for k in numbers)
    return {n: v for n, v in student.state_dict().items() if n.startswith(prefixes)}


def _changed(student: Chain, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    now = _branches(student)
    return {n: v.clone() for n, v in now.items() if not torch.equal(v, before[n])}


def _put_back(student: Chain, weights: Mapping[str, Tensor]) -> None:
    student.load_state_dict(dict(weights), strict=False)


def _files(context: PassContext, name: str, student: Chain) -> dict[str, Writer]:
    layers = _output_layers(student)
    path = _path(context, name).relative_to(context.run.root)
    return {str(path): lambda file: save_file(layers, file)}


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


def _path(context: PassContext, name: str, what: str = "refit") -> Path:
    return context.run.path("students", name, f"{what}.safetensors")
