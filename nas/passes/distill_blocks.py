"""Blockwise local distillation: the candidates of a slot, from its activations."""

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
    power = _power(data)
    results = {b.spec: _trained(data, b, power, config, seed) for b in trainable}
    return [results.get(b.spec, Trained(b, b.error, None, "closed_form")) for b in built]


def _trained(
    data: SlotData, before: Built, power: float, config: BuildConfig, seed: int
) -> Trained:
    """One block after another: moments and gradients of all at once would be most of the memory of
    a build, and the batches are the same."""
    student = copy.deepcopy(before.block)
    assert student is not None
    _optimise(data, student.train().requires_grad_(True), power, config, seed)
    student.eval().requires_grad_(False)
    return _better(before, student, data.error(student))


def _better(before: Built, student: Block, error: float) -> Trained:
    if not error < before.error:
        return Trained(before, before.error, error, "closed_form")
    after = Built(before.spec, student, error, before.sliced_error)
    return Trained(after, before.error, error, "trained")


def _optimise(data: SlotData, student: Block, power: float, config: BuildConfig, seed: int) -> None:
    fitted = data.x.shape[0] - data.held_out
    per_step = max(1, config.batch_tokens // data.tokens_a_sample)
    steps = config.epochs * math.ceil(fitted / per_step)
    optimiser = torch.optim.AdamW(
        student.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True
    )
    warmup = max(1, round(config.warmup_fraction * steps))
    generator = torch.Generator().manual_seed(seed)
    step = 0
    for _ in range(config.epochs):
        for rows in torch.randperm(fitted, generator=generator).split(per_step):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * cosine(step, warmup, steps)
            loss = _loss(data, student, rows) / power
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1


def _power(data: SlotData) -> float:
    """Mean square of the teacher's output where blocks are fitted."""
    total, stop = 0.0, data.x.shape[0] - data.held_out
    for i in range(0, stop, data.chunk):
        rows = slice(i, min(i + data.chunk, stop))
        total += float(data.squares(data.y[rows], rows).sum())
    return max(total / data.y[:stop].numel(), 1e-30)


def _loss(data: SlotData, student: Block, rows: Tensor) -> Tensor:
    x, y = data.read(rows), data.y[rows]
    with autocast(x.device.type):
        out = student(x, data.context)
    return data.squares(out.float() - y, rows).mean()


def cosine(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
