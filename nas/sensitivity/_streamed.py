"""The expansion about a teacher of which one slot is in memory: forward and back, slot by slot.

What `_expansion` does batch by batch is done here slot by slot, with the same numbers: the states
of all batches are written to mapped files on the way forward, and each slot's own graph is built
again on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.ir import BlockSpec, KeepTeacher
from nas.sensitivity._network import MixedNetwork
from nas.streaming import mapped_like

Floats = npt.NDArray[np.float64]


def expand_streamed(
    network: MixedNetwork,
    swaps: Mapping[int, Sequence[BlockSpec]],
    pieces: Sequence[Tensor],
    draws: int,
    generator: torch.Generator,
    advance: Callable[[int], None],
    folder: Path | None,
) -> list[tuple[Floats, Floats]]:
    """(slope [sequences, C], scalars [draws, sequences, C]) of each batch of token ids in `pieces`.

    Disk: a state [tokens, hidden] a slot, and `draws` gradients.
    """
    chain, slots = network.teacher, range(len(network.teacher.slots))
    states = [[_stored(chain.embed_tokens(ids), folder) for ids in pieces]]
    with torch.no_grad():
        for k in slots:
            after = [
                _stored(_slot(network, k, state, ids)[1], folder)
                for state, ids in zip(states[-1], pieces, strict=True)
            ]
            states.append(after)
    gradients = []
    for state in states.pop():
        gradients.append(_head(network, state, draws, generator, folder))
        advance(len(state))
    columns: dict[int, list[Floats]] = {}
    for k in reversed(slots[min(swaps) :]):
        before = states.pop()
        if k in swaps:
            columns[k] = [
                _dots(network, k, swaps[k], state, ids, gradient)
                for state, ids, gradient in zip(before, pieces, gradients, strict=True)
            ]
        if k > min(swaps):
            for state, ids, gradient in zip(before, pieces, gradients, strict=True):
                _back(network, k, state, ids, gradient)
    found = [
        np.concatenate([columns[k][i] for k in sorted(swaps)], axis=-1) for i in range(len(pieces))
    ]
    return [(np.zeros_like(scalars[0]), scalars) for scalars in found]


def _stored(state: Tensor, folder: Path | None) -> Tensor:
    return mapped_like(state, folder).copy_(state)


def _slot(network: MixedNetwork, k: int, state: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The slot's normed input and the state after it, as `MixedNetwork.walk` has them."""
    normed = network.teacher.slot(k).normed(state)
    update = network.update(k, KeepTeacher(), normed, network.teacher.context(ids))
    return normed, state + update.to(state.dtype)


def _head(
    network: MixedNetwork,
    state: Tensor,
    draws: int,
    generator: torch.Generator,
    folder: Path | None,
) -> Tensor:
    """Gradients with respect to the last state [draws, sequences, tokens, hidden]."""
    with torch.enable_grad():
        last = state.detach().requires_grad_()
        hidden = network.teacher.exact_hidden(last)
    seeds = network.objective.gradients(hidden.detach(), None, draws, generator)
    found = mapped_like(seeds, folder, state.dtype)
    for held, seed in zip(found, seeds, strict=True):
        held.copy_(torch.autograd.grad(hidden, last, seed, retain_graph=True)[0])
    return found


@torch.no_grad()
def _dots(
    network: MixedNetwork,
    k: int,
    specs: Sequence[BlockSpec],
    state: Tensor,
    ids: Tensor,
    gradient: Tensor,
) -> Floats:
    """Gradient times what each block changes [draws, sequences, candidates]."""
    kept = network.teacher.dtype
    kept = torch.float32 if kept == torch.float16 else kept
    context, normed = network.teacher.context(ids), network.teacher.slot(k).normed(state)
    now = network.update(k, KeepTeacher(), normed, context)
    errors = torch.stack([network.update(k, s, normed, context) - now for s in specs]).to(kept)
    dots = torch.einsum("rsx,csx->rsc", gradient.to(kept).flatten(2), errors.flatten(2))
    return np.asarray(dots.double().cpu().numpy())


def _back(network: MixedNetwork, k: int, state: Tensor, ids: Tensor, gradient: Tensor) -> None:
    """From the gradient after slot k to the one before it, in place."""
    with torch.enable_grad():
        before = state.detach().requires_grad_()
        _, after = _slot(network, k, before, ids)
    for held in gradient:
        held.copy_(torch.autograd.grad(after, before, held, retain_graph=True)[0])
