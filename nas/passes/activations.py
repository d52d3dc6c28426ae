"""The teacher's activations at one slot after the other, from one walk."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks import Block, SlotData
from nas.chain import Chain, SlotModule
from nas.chain._slot import cast
from nas.config import BuildConfig
from nas.data import tokens_a_sample
from nas.errors import ConfigError
from nas.ir import Slot
from nas.passes._context import PassContext
from nas.streaming import StreamedChain, mapped_like


def slot_activations(
    context: PassContext, wanted: Collection[Slot]
) -> Iterator[tuple[Slot, SlotData]]:
    """Normed input and output of every wanted slot, for all tokens that blocks are made from.

    One slot's activations are held at a time: memory does not grow with depth. Those of a streamed
    teacher are in mapped files.
    """
    chain, config = context.teacher.chain, context.config.build
    folder = context.run.root if isinstance(chain, StreamedChain) else None
    state = _embed(chain, _windows(context.text.train, config), folder)
    last = max(chain.slot_ids.index(slot) for slot in wanted)
    for k, slot in enumerate(chain.slot_ids[: last + 1]):
        x, y = _branch(chain, k, state, folder)
        if slot in wanted:
            yield slot, _slot_data(chain, k, slot, (x, y, state), config)
        state += y
        del x, y
        with torch.no_grad():
            state = chain.slot(k).settle_rows(state, chain.samples_at_once)


def _windows(train: Tensor, config: BuildConfig) -> Tensor:
    """The training windows to walk; at least one is fitted on and one held out."""
    tokens = tokens_a_sample(train)
    count = min(len(train), config.tokens // tokens)
    if count < 2:
        raise ConfigError(
            f"build.tokens: {config.tokens} of {len(train)} training windows of {tokens} "
            f"tokens give {count}; at least 2 are needed, one to fit on and one to judge"
        )
    return train[:count]


@torch.no_grad()
def _embed(chain: Chain, windows: Tensor, folder: Path | None) -> Tensor:
    at_once = chain.samples_at_once
    one = chain.embed_tokens(windows[:1].to(chain.device))
    state = mapped_like(one.float().expand(len(windows), *one.shape[1:]), folder)
    for rows, ids in zip(state.split(at_once), windows.split(at_once), strict=True):
        rows.copy_(chain.embed_tokens(ids.to(chain.device)))
    return state


@torch.no_grad()
def _branch(chain: Chain, k: int, state: Tensor, folder: Path | None) -> tuple[Tensor, Tensor]:
    """Normed input and output of slot k for all sequences, in float32."""
    slot, x, y = chain.slot(k), mapped_like(state, folder), mapped_like(state, folder)
    context, branch = chain.context(state[:1, :, 0]), chain.teacher_branch(k)
    for i in range(0, len(state), chain.samples_at_once):
        rows = slice(i, i + chain.samples_at_once)
        normed = slot.normed(state[rows].to(chain.dtype))
        with autocast(state.device.type):
            y[rows] = branch(cast(normed), context)
        x[rows] = normed
    return x, y


@torch.no_grad()
def _emphasis(slot: SlotModule, state: Tensor, update: Tensor) -> Tensor | None:
    if slot.gain is None:  # no norm follows: the sums need not be made
        return None
    parts = [slot.emphasis(s + u) for s, u in zip(state.split(8), update.split(8), strict=True)]
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def _slot_data(
    chain: Chain, k: int, slot: Slot, seen: tuple[Tensor, Tensor, Tensor], config: BuildConfig
) -> SlotData:
    """`seen`: normed input, output, and the residual stream before the slot."""
    x, y, state = seen
    module = chain.slot(k)
    gain = module.gain
    held_out = min(len(x) - 1, max(1, round(len(x) * config.held_out_fraction)))
    return SlotData(
        shape=chain.shape,
        slot_kind=slot.kind,
        teacher=_in_float32(chain.teacher_branch(k)),
        x=x,
        y=y,
        context=chain.context(x[:1, :, 0]),
        held_out=held_out,
        ridge=config.ridge,
        emphasis=_emphasis(module, state, y),
        gain=None if gain is None else gain.float(),
        chunk=chain.samples_at_once,
    )


def _in_float32(branch: Block) -> Block:
    """The branch itself where it is in float32: nobody writes to the teacher."""
    wide = all(p.dtype == torch.float32 for p in branch.parameters())
    return branch if wide else copy.deepcopy(branch).float()
