"""Build the library: closed forms, then blockwise local distillation, slot by slot.

The teacher is walked once. At each slot its normed input and its output are held for all tokens;
every candidate of the slot is made from these activations alone (decoupled, arXiv 2411.19146,
section 3.1), and they are dropped before the next slot. Memory does not grow with depth.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas._numerics import autocast
from nas.blocks import KINDS, Block, Built, SlotData, build_block
from nas.chain import DecoderChain
from nas.config import BuildConfig
from nas.errors import ConfigError
from nas.ir import BlockSpec, Candidate, DecoderShape, Slot
from nas.passes._context import PassContext
from nas.passes.distill_blocks import Trained, train_blocks
from nas.run import content_key, json_writer


@dataclass(frozen=True)
class BlockRecord:
    """What meta.json says of a block; errors are held-out MSE over the teacher's own power."""

    sliced_error: float
    initial_error: float
    trained_error: float | None
    kept: str
    tokens: int
    seconds: float


def build(
    context: PassContext, candidates: Iterable[Candidate], extra: Iterable[Candidate] = ()
) -> dict[str, str]:
    """Make every block that is not there yet; returns candidate id -> unit key.

    `extra` are blocks that only baselines need; their units belong to the pass solve.
    """
    units = {c: f"build/{c.id}" for c in candidates} | {c: f"solve/uniform/{c.id}" for c in extra}
    keys = block_keys(context, units)
    missing: dict[Slot, list[Candidate]] = {}
    for candidate, unit in units.items():
        if not context.run.fetch(unit, keys[candidate.id]):
            missing.setdefault(candidate.slot, []).append(candidate)
    if missing:
        _walk(context, missing, units, keys)
    return keys


def block_keys(context: PassContext, candidates: Iterable[Candidate]) -> dict[str, str]:
    """Unit key of each candidate. A block depends on its own slot and specification alone."""
    shared = (context.data_key, context.config.build, context.config.seed)
    return {c.id: content_key("build", *shared, c) for c in candidates}


def _walk(
    context: PassContext,
    missing: Mapping[Slot, list[Candidate]],
    units: Mapping[Candidate, str],
    keys: Mapping[str, str],
) -> None:
    chain, config = context.teacher.chain, context.config.build
    windows = _windows(context.text.train, config)
    state = _embed(chain, windows)
    last = max(chain.slot_ids.index(slot) for slot in missing)
    with context.progress.task("build", sum(map(len, missing.values()))) as advance:
        for k, slot in enumerate(chain.slot_ids[: last + 1]):
            x, y = _branch(chain, k, state)
            if slot in missing:
                started = time.perf_counter()
                data = _slot_data(chain, k, slot, x, y, config)
                candidates = missing[slot]
                finished = make_blocks(
                    data, [c.spec for c in candidates], config, context.config.seed
                )
                share = (time.perf_counter() - started) / len(candidates)
                for candidate, built in zip(candidates, finished, strict=True):
                    unit, key = units[candidate], keys[candidate.id]
                    _store(context, candidate, unit, key, built, x.shape, share)
                advance(len(candidates))
            state += y
            del x, y


def make_blocks(
    data: SlotData, specs: list[BlockSpec], config: BuildConfig, seed: int
) -> list[Trained]:
    """Closed forms of all `specs` at one slot, then local distillation where it is asked for."""
    order = {spec: i for i, spec in enumerate(specs)}
    built: list[Built] = []
    for kind in dict.fromkeys(spec.kind for spec in specs):
        same = tuple(spec for spec in specs if spec.kind == kind)
        built += KINDS[kind].initialise(data, same)
    built.sort(key=lambda b: order[b.spec])
    return train_blocks(data, built, config, seed)


def load_block(
    run_folder: Path, shape: DecoderShape, slot: Slot, spec: BlockSpec, device: str = "cpu"
) -> Block | None:
    """A block of the library as a module; None for a skip."""
    with torch.device("meta"):  # its weights are read, not made
        block = build_block(shape, slot.kind, spec)
    if block is not None:
        path = run_folder / "library" / slot.id / spec.label / "block.safetensors"
        block.load_state_dict(load_file(path, device=device), assign=True)
        block.eval().requires_grad_(False)
    return block


def _windows(train: Tensor, config: BuildConfig) -> Tensor:
    """The training windows to walk; at least one is fitted on and one held out."""
    count = min(len(train), config.tokens // train.shape[1])
    if count < 2:
        raise ConfigError(
            f"build.tokens: {config.tokens} of {len(train)} training windows of {train.shape[1]} "
            f"tokens give {count}; at least 2 are needed, one to fit on and one to judge"
        )
    return train[:count]


@torch.no_grad()
def _embed(chain: DecoderChain, windows: Tensor) -> Tensor:
    device = chain.embed.weight.device
    return torch.cat([chain.embed_tokens(ids.to(device)).float() for ids in windows.split(8)])


@torch.no_grad()
def _branch(chain: DecoderChain, k: int, state: Tensor) -> tuple[Tensor, Tensor]:
    """Normed input and output of slot k for all sequences, in float32."""
    slot, x, y = chain.slot(k), torch.empty_like(state), torch.empty_like(state)
    context, branch = chain.context(state[:1, :, 0]), chain.teacher_branch(k)
    for i in range(0, len(state), 8):
        normed = slot.normed(state[i : i + 8].to(chain.norm.weight.dtype))
        with autocast(state.device.type):
            y[i : i + 8] = branch(normed, context)
        x[i : i + 8] = normed
    return x, y


def _slot_data(
    chain: DecoderChain, k: int, slot: Slot, x: Tensor, y: Tensor, config: BuildConfig
) -> SlotData:
    held_out = min(len(x) - 1, max(1, round(len(x) * config.held_out_fraction)))
    return SlotData(
        shape=chain.shape,
        slot_kind=slot.kind,
        teacher=copy.deepcopy(chain.teacher_branch(k)).float(),
        x=x,
        y=y,
        context=chain.context(x[:1, :, 0]),
        held_out=held_out,
        ridge=config.ridge,
    )


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
        state = {name: tensor.contiguous() for name, tensor in block.state_dict().items()}
        files[f"{folder}/block.safetensors"] = lambda path: save_file(state, path)
    context.run.store(unit, key, files, vars(record), seconds)
