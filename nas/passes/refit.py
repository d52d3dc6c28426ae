"""Refit: bring a student's residual stream back to the teacher's, in closed form.

A block is made from the teacher's activations. In a student its input comes from cheaper
blocks, and their errors add up from slot to slot. Here the layer through which a block writes to
the stream is regressed once more, from the first slot to the last: on the features that it has in
the student, towards what is missing to the teacher's state after the slot. What earlier slots lost
is made up for where a later one can. (GPTAQ, arXiv 2504.02692, corrects quantised layers towards
the same target.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nas._numerics import autocast
from nas.blocks import BlockContext
from nas.blocks._ridge import Moments, solve, solve_affine
from nas.chain import Chain, SlotModule


class _Aim(NamedTuple):
    """The teacher's slot, and its residual stream with the slot's update in it; `at_once`: samples
    that pass through a block at a time."""

    slot: SlotModule
    state: Tensor
    at_once: int


@torch.no_grad()
def refit(
    teacher: Chain,
    students: Mapping[str, Chain],
    windows: Tensor,
    ridge: float,
    advance: Callable[[int], None],
) -> None:
    """Correct the output layers of `students` in place on token ids `windows` [sequences, tokens].

    The teacher is walked once for all of them; one state [sequences, tokens, hidden] in float32 is
    held for each network, and one slot's features. `ridge` penalises the change of a layer,
    relative to the mean square of its features. `advance` is called after each slot.
    """
    windows, at_once = windows.to(teacher.device), teacher.samples_at_once
    wanted = torch.cat([teacher.embed_tokens(ids).float() for ids in windows.split(at_once)])
    states = {name: wanted.clone() for name in students}
    context = teacher.context(windows[:1])
    for k in range(len(teacher.slots)):
        aim = _Aim(teacher.slot(k), wanted, at_once)
        _advance(aim, context)
        for name, student in students.items():
            _refit_slot(student.slot(k), states[name], aim, context, ridge)
            states[name] = student.slot(k).settle_rows(states[name], at_once)
        wanted = teacher.slot(k).settle_rows(wanted, at_once)
        advance(1)


def _advance(aim: _Aim, context: BlockContext) -> None:
    """Add the update of the teacher's slot to its state, in place."""
    assert aim.slot.branch is not None
    for rows in aim.state.split(aim.at_once):
        with autocast(aim.state.device.type):
            rows += aim.slot.branch(_normed(aim.slot, rows), context)


def _refit_slot(
    slot: SlotModule, state: Tensor, aim: _Aim, context: BlockContext, ridge: float
) -> None:
    """Correct the slot's output layer, and add its update to the state, in place."""
    branch = slot.branch
    if branch is None:
        return
    layer, kept = branch.output_layer, []
    moments = Moments.zeros(layer.in_features, layer.out_features, state)
    for rows, goal in zip(state.split(aim.at_once), aim.state.split(aim.at_once), strict=True):
        with autocast(state.device.type):
            features = branch.features(_normed(slot, rows), context)
            update = layer(features)
        moments.add(features, goal - rows - update, aim.slot.emphasis(goal))
        kept.append(features)
    _correct(layer, moments, ridge)
    for rows, features in zip(state.split(aim.at_once), kept, strict=True):
        with autocast(state.device.type):
            rows += layer(features)


def _normed(slot: SlotModule, rows: Tensor) -> Tensor:
    assert slot.branch is not None
    return slot.normed(rows.to(slot.branch.output_layer.weight.dtype))


def _correct(layer: nn.Linear, moments: Moments, ridge: float) -> None:
    """Add to the layer the regression of what is missing on its features."""
    bias: Tensor | None = layer.bias
    if bias is None:
        layer.weight += solve(moments.gram, moments.cross, ridge).to(layer.weight.dtype)
        return
    weight, shift = solve_affine(moments, ridge)
    layer.weight += weight.to(layer.weight.dtype)
    bias += shift.to(bias.dtype)
