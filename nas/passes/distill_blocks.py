"""Blockwise local distillation: all candidates of a slot from one pass over its activations."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks import Block, Built, SlotData
from nas.config import BuildConfig


@dataclass(frozen=True)
class Trained:
    """A block after the build. `kept` is `closed_form` or `trained`, whichever the held-out error
    prefers; `built.error` is that of the block kept."""

    built: Built
    initial_error: float
    trained_error: float | None
    kept: str


def train_blocks(
    data: SlotData, built: list[Built], config: BuildConfig, seed: int
) -> list[Trained]:
    """Train copies of the blocks on normalised MSE (arXiv 2411.19146, eq. 1); keep the better."""
    trainable = [b for b in built if b.block is not None]
    if config.epochs == 0 or not trainable:
        return [Trained(b, b.error, None, "closed_form") for b in built]
    students = [copy.deepcopy(b.block).train().requires_grad_(True) for b in trainable if b.block]
    _optimise(data, students, config, seed)
    results = {}
    for before, student in zip(trainable, students, strict=True):
        student.eval().requires_grad_(False)
        results[before.spec] = _better(before, student, data.error(student))
    return [results.get(b.spec, Trained(b, b.error, None, "closed_form")) for b in built]


def _better(before: Built, student: Block, error: float) -> Trained:
    if not error < before.error:
        return Trained(before, before.error, error, "closed_form")
    after = Built(before.spec, student, error, before.sliced_error)
    return Trained(after, before.error, error, "trained")


def _optimise(data: SlotData, students: list[Block], config: BuildConfig, seed: int) -> None:
    fitted = data.x.shape[0] - data.held_out
    per_step = max(1, config.batch_tokens // data.tokens_a_sample)
    steps = config.epochs * math.ceil(fitted / per_step)
    parameters = [p for student in students for p in student.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0)
    warmup = max(1, round(config.warmup_fraction * steps))
    generator = torch.Generator().manual_seed(seed)
    power = data.squares(data.y[:fitted], slice(fitted)).mean().clamp(min=1e-30)
    step = 0
    for _ in range(config.epochs):
        for rows in torch.randperm(fitted, generator=generator).split(per_step):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * cosine(step, warmup, steps)
            # The losses are separate sums over separate parameters, so no gradient crosses blocks.
            loss = _loss(data, students, rows) / power
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1


def _loss(data: SlotData, students: list[Block], rows: Tensor) -> Tensor:
    x, y = data.x[rows], data.y[rows]
    total = x.new_zeros(())
    for student in students:
        with autocast(x.device.type):
            out = student(x, data.context)
        total = total + data.squares(out.float() - y, rows).mean()
    return total


def cosine(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
