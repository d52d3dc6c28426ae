"""Build the library: closed forms, then blockwise local distillation, slot by slot.

The teacher is walked once. At each slot its normed input and its output are held for all tokens;
every candidate of the slot is made from these activations alone (decoupled, arXiv 2411.19146,
section 3.1), and they are dropped before the next slot. Memory does not grow with depth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from nas.blocks import KINDS, Block, Built, SlotData, build_block
from nas.ir import BlockSpec, Candidate, DecoderShape, Slot
from nas.passes._context import PassContext
from nas.passes.activations import slot_activations
from nas.passes.distill_blocks import Trained, train_blocks
from nas.run import Writer, content_key, json_writer


@dataclass(frozen=True)
class BlockRecord:
    """What meta.json says of a block; errors are held-out MSE over the teacher's own power."""

    sliced_error: float
    initial_error: float
    trained_error: float | None
    kept: str
    tokens: int
    seconds: float


FindDraft = Callable[[Candidate], Built | None]
"""Finds the closed form of a candidate where it has been made before."""


def build(
    context: PassContext,
    candidates: Iterable[Candidate],
    extra: Iterable[Candidate] = (),
    drafts: FindDraft | None = None,
) -> dict[str, str]:
    """Make every block that is not there yet; returns candidate id -> unit key.

    `extra` are blocks that only baselines need; their units belong to the pass solve. Blocks are
    the same with and without `drafts`.
    """
    units = {c: f"build/{c.id}" for c in candidates} | {c: f"solve/uniform/{c.id}" for c in extra}
    keys = block_keys(context, units)
    missing: dict[Slot, list[Candidate]] = {}
    for candidate, unit in units.items():
        if not context.run.fetch(unit, keys[candidate.id]):
            missing.setdefault(candidate.slot, []).append(candidate)
    if missing:
        _make(context, missing, units, keys, drafts)
    return keys


def block_keys(context: PassContext, candidates: Iterable[Candidate]) -> dict[str, str]:
    """Unit key of each candidate. A block depends on its own slot and specification alone."""
    shared = (context.data_key, context.config.build, context.config.seed)
    return {c.id: content_key("build", *shared, c) for c in candidates}


def _make(
    context: PassContext,
    missing: Mapping[Slot, list[Candidate]],
    units: Mapping[Candidate, str],
    keys: Mapping[str, str],
    drafts: FindDraft | None,
) -> None:
    config, seed = context.config.build, context.config.seed
    with context.progress.task("build", sum(map(len, missing.values()))) as advance:
        for slot, data in slot_activations(context, missing):
            started, candidates = time.perf_counter(), missing[slot]
            built = closed_forms(data, candidates, drafts)
            finished = train_blocks(data, built, config, seed)
            share = (time.perf_counter() - started) / len(candidates)
            for candidate, trained in zip(candidates, finished, strict=True):
                unit, key = units[candidate], keys[candidate.id]
                _store(context, candidate, unit, key, trained, data.x.shape, share)
            advance(len(candidates))
            del data  # before the next slot's are made


def closed_forms(
    data: SlotData, candidates: Sequence[Candidate], drafts: FindDraft | None = None
) -> list[Built]:
    """Closed forms of all `candidates` at one slot, in their order; drafts are taken as found."""
    made = {c: block for c in candidates if (block := drafts and drafts(c))}
    for kind in dict.fromkeys(c.spec.kind for c in candidates if c not in made):
        same = [c for c in candidates if c not in made and c.spec.kind == kind]
        built = KINDS[kind].initialise(data, tuple(c.spec for c in same))
        by_spec = {b.spec: b for b in built}
        made |= {c: by_spec[c.spec] for c in same}
    return [made[c] for c in candidates]


def load_block(
    run_folder: Path, shape: DecoderShape, slot: Slot, spec: BlockSpec, device: str = "cpu"
) -> Block | None:
    """A block of the library as a module; None for a skip."""
    path = run_folder / "library" / slot.id / spec.label / "block.safetensors"
    return read_block(path, shape, slot, spec, device)


def read_block(
    path: Path, shape: DecoderShape, slot: Slot, spec: BlockSpec, device: str = "cpu"
) -> Block | None:
    """The block whose weights lie at `path`; None for a skip, which has none."""
    with torch.device("meta"):  # its weights are read, not made
        block = build_block(shape, slot.kind, spec)
    if block is not None:
        block.load_state_dict(load_file(path, device=device), assign=True)
        block.eval().requires_grad_(False)
    return block


def _store(
    context: PassContext,
    candidate: Candidate,
    unit: str,
    key: str,
    trained: Trained,
    size: torch.Size,
    seconds: float,
) -> None:
    record = BlockRecord(
        sliced_error=trained.built.sliced_error,
        initial_error=trained.initial_error,
        trained_error=trained.trained_error,
        kept=trained.kept,
        tokens=size[0] * size[1],
        seconds=seconds,
    )
    folder = f"library/{candidate.slot.id}/{candidate.spec.label}"
    meta = {"candidate": candidate.model_dump(mode="json"), **vars(record)}
    files = {f"{folder}/meta.json": json_writer(meta)}
    block = trained.built.block
    if block is not None:
        files[f"{folder}/block.safetensors"] = block_writer(block)
    context.run.store(unit, key, files, vars(record), seconds)


def block_writer(block: Block) -> Writer:
    """A writer of a block's weights."""
    state = {name: tensor.contiguous() for name, tensor in block.state_dict().items()}
    return lambda path: save_file(state, path)
