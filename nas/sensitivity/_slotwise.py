"""The expansion slot by slot: forward with the states kept, then back with one slot's graph.

A whole network's graph, walked once a draw, would leave the processor's cache before the next draw
comes to the same slot. Here each slot's graph is made once on the way back and all draws pass it
while it is at hand; a slot's weights and candidates are read once for all batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.ir import Architecture, BlockSpec, KeepTeacher
from nas.sensitivity._network import MixedNetwork
from nas.streaming import mapped_like

Floats = npt.NDArray[np.float64]


class Expanded(NamedTuple):
    """About which network, and what may come into which slot."""

    network: MixedNetwork
    present: Architecture
    swaps: Mapping[int, Sequence[BlockSpec]]


class _Step(NamedTuple):
    """A slot's graph: the state before, the branch's normed input and update, the residual stream
    with the update in it, and what the next slot sees."""

    before: Tensor
    normed: Tensor
    update: Tensor
    summed: Tensor
    after: Tensor


def expand_slotwise(
    asked: Expanded,
    pieces: Sequence[Tensor],
    draws: int,
    generator: torch.Generator,
    advance: Callable[[int], None],
    folder: Path | None,
) -> list[tuple[Floats, Floats]]:
    """(slope [sequences, C], scalars [draws, sequences, C]) of each batch of token ids in `pieces`,
    summed over tokens.

    Held, in mapped files of `folder` where one is given: a state [tokens, hidden] a slot, and the
    rows of `Objective.gradients`.
    """
    network, swaps = asked.network, asked.swaps
    specs = [spec for _, spec in asked.present.items(network.teacher.shape)]
    states = _states(network, specs, pieces, folder)
    gradients = []
    for ids, state in zip(pieces, states.pop(), strict=True):
        goal = _goal(network, asked.present, ids)
        gradients.append(_head(network, state, goal, draws, generator, folder))
        advance(len(state))
    columns: dict[int, list[Floats]] = {}
    for k in reversed(range(min(swaps), len(specs))):
        before = states.pop()
        for i, (ids, state) in enumerate(zip(pieces, before, strict=True)):
            with torch.enable_grad():
                step = _step(network, k, specs[k], state.detach().requires_grad_(), ids)
            gradients[i] = _through(step.after, step.summed, gradients[i], folder)
            if k in swaps:
                dots = _dots(network, k, swaps[k], step, ids, gradients[i])
                columns.setdefault(k, []).append(dots)
            if k > min(swaps):
                gradients[i] = _through(step.summed, step.before, gradients[i], folder)
    found = []
    for i in range(len(pieces)):
        rows = np.concatenate([columns[k][i] for k in sorted(swaps)], axis=-1)
        slope = rows[0] if len(rows) > draws else np.zeros_like(rows[0])
        found.append((slope, rows[-draws:]))
    return found


@torch.no_grad()
def _states(
    network: MixedNetwork,
    specs: Sequence[BlockSpec],
    pieces: Sequence[Tensor],
    folder: Path | None,
) -> list[list[Tensor]]:
    """The residual stream of each batch before each slot, and after the last."""
    states = [[_stored(network.teacher.embed_tokens(ids), folder) for ids in pieces]]
    for k, spec in enumerate(specs):
        after = [
            _stored(_step(network, k, spec, state, ids).after, folder)
            for state, ids in zip(states[-1], pieces, strict=True)
        ]
        states.append(after)
    return states


def _stored(state: Tensor, folder: Path | None) -> Tensor:
    return state if folder is None else mapped_like(state, folder).copy_(state)


def _step(network: MixedNetwork, k: int, spec: BlockSpec, before: Tensor, ids: Tensor) -> _Step:
    """As `MixedNetwork.walk` passes a slot."""
    slot = network.teacher.slot(k)
    normed = slot.normed(before)
    update = network.update(k, spec, normed, network.teacher.context(ids))
    summed = before + update.to(before.dtype)
    return _Step(before, normed, update, summed, slot.settle(summed))


@torch.no_grad()
def _goal(network: MixedNetwork, present: Architecture, ids: Tensor) -> Tensor | None:
    """The teacher's own last state; None where the present network is the teacher."""
    if all(isinstance(spec, KeepTeacher) for spec in present.choices.values()):
        return None
    return network.hidden(Architecture(), ids)


def _head(
    network: MixedNetwork,
    state: Tensor,
    goal: Tensor | None,
    draws: int,
    generator: torch.Generator,
    folder: Path | None,
) -> Tensor:
    """Gradients with respect to the last state [rows, sequences, tokens, hidden]."""
    with torch.enable_grad():
        last = state.detach().requires_grad_()
        hidden = network.teacher.exact_hidden(last)
    seeds = network.objective.gradients(hidden.detach(), goal, draws, generator)
    return _through(hidden, last, seeds, folder)


def _through(after: Tensor, before: Tensor, gradients: Tensor, folder: Path | None) -> Tensor:
    """Gradients with respect to `before` from those to `after`; in place where the shape stays."""
    if after is before:
        return gradients
    same = after.shape == before.shape and gradients.dtype == before.dtype
    found = (
        gradients
        if same
        else mapped_like(before.detach().expand(len(gradients), *before.shape), folder)
    )
    for into, gradient in zip(found, gradients, strict=True):
        into.copy_(torch.autograd.grad(after, before, gradient, retain_graph=True)[0])
    return found


@torch.no_grad()
def _dots(
    network: MixedNetwork,
    k: int,
    specs: Sequence[BlockSpec],
    step: _Step,
    ids: Tensor,
    gradients: Tensor,
) -> Floats:
    """Gradient times what each block changes [rows, sequences, candidates]."""
    context, normed, now = network.teacher.context(ids), step.normed.detach(), step.update.detach()
    errors = now.new_empty(len(specs), *now.shape)
    for error, spec in zip(errors, specs, strict=True):
        torch.sub(network.update(k, spec, normed, context), now, out=error)
    # [rows, sequences, tokens * hidden] x [candidates, sequences, tokens * hidden]: so few
    # rows are faster in float32, too
    dots = torch.einsum("rsx,csx->rsc", gradients.to(errors.dtype).flatten(2), errors.flatten(2))
    return np.asarray(dots.double().cpu().numpy())
