"""The teacher's activations at one slot after the other, from one walk."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks import SlotData
from nas.chain import DecoderChain
from nas.config import BuildConfig
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
            yield slot, _slot_data(chain, k, slot, x, y, config)
        state += y
        del x, y


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
def _embed(chain: DecoderChain, windows: Tensor, folder: Path | None) -> Tensor:
    weight = chain.embed.weight
    size = torch.empty(1, device=weight.device).expand(*windows.shape, weight.shape[1])
    state = mapped_like(size, folder)
    for rows, ids in zip(state.split(8), windows.split(8), strict=True):
        rows.copy_(chain.embed_tokens(ids.to(weight.device)))
    return state


@torch.no_grad()
def _branch(
    chain: DecoderChain, k: int, state: Tensor, folder: Path | None
) -> tuple[Tensor, Tensor]:
    """Normed input and output of slot k for all sequences, in float32."""
    slot, x, y = chain.slot(k), mapped_like(state, folder), mapped_like(state, folder)
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
