"""Blockwise local distillation: all candidates of a slot from one pass over its activations."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks import Block, Built, SlotData
from nas.config import BuildConfig
from nas.ir import BlockSpec
from nas.pruning import rung_ends


@dataclass(frozen=True)
class Trained:
    """A block after the build. `kept` is `closed_form` or `trained`, whichever the held-out error
    prefers; `built.error` is that of the block kept. `rung_errors`: held-out errors after the rungs
    that it passed or stopped at, but for the last. `stopped`: the step, of all steps, and the
    reason, of a block that did not learn all the way."""

    built: Built
    initial_error: float
    trained_error: float | None
    kept: str
    rung_errors: tuple[float, ...] = ()
    stopped: Stopped | None = None


@dataclass(frozen=True)
class Stopped:
    """Where and why training ended early."""

    step: int
    of: int
    reason: str


Stop = Callable[[int, int, Mapping[BlockSpec, float]], Mapping[BlockSpec, str]]
"""Asked after each rung but the last: its number, its last step, and the share of the closed form's
held-out error that is left of every block in training; which of them stop, and why."""


def _goes_on(rung: int, step: int, left: Mapping[BlockSpec, float]) -> Mapping[BlockSpec, str]:
    return {}


def train_blocks(
    data: SlotData, built: list[Built], config: BuildConfig, seed: int, stop: Stop = _goes_on
) -> list[Trained]:
    """Train copies of the blocks on normalised MSE (arXiv 2411.19146, eq. 1); keep the better.

    Rungs are places on the way of one schedule. What a block has at one of them does not depend on
    who stops, so one that learns all the way is the same with rungs and without.
    """
    trainable = [b for b in built if b.block is not None]
    if config.epochs == 0 or not trainable:
        return [Trained(b, b.error, None, "closed_form") for b in built]
    lesson = _Lesson(data, trainable, config, seed)
    lesson.teach(stop)
    results = {before.spec: lesson.result(before) for before in trainable}
    return [results.get(b.spec, Trained(b, b.error, None, "closed_form")) for b in built]


def _better(before: Built, student: Block, error: float) -> Trained:
    if not error < before.error:
        return Trained(before, before.error, error, "closed_form")
    after = Built(before.spec, student, error, before.sliced_error)
    return Trained(after, before.error, error, "trained")


class _Lesson:
    """Blocks of one slot that learn side by side, each for itself."""

    def __init__(self, data: SlotData, built: list[Built], config: BuildConfig, seed: int) -> None:
        self._data, self._config, self._seed = data, config, seed
        self._before = {b.spec: b for b in built}
        self._students = {
            b.spec: copy.deepcopy(b.block).train().requires_grad_(True) for b in built if b.block
        }
        self._rung_errors: dict[BlockSpec, list[float]] = {spec: [] for spec in self._students}
        self._stopped: dict[BlockSpec, Stopped] = {}

    def result(self, before: Built) -> Trained:
        """The block as it is now, or its closed form where that is better."""
        student = self._students[before.spec].eval().requires_grad_(False)
        passed, stopped = self._rung_errors[before.spec], self._stopped.get(before.spec)
        error = passed[-1] if stopped else self._data.error(student)
        found = _better(before, student, error)
        return replace(found, rung_errors=tuple(passed), stopped=stopped)

    def teach(self, stop: Stop) -> None:
        """Train until the last step, or until all have stopped."""
        data, config = self._data, self._config
        fitted = data.x.shape[0] - data.held_out
        per_step = max(1, config.batch_tokens // data.tokens_a_sample)
        steps = config.epochs * math.ceil(fitted / per_step)
        rungs = {
            end: rung
            for rung, end in enumerate(rung_ends(steps, config.rungs, config.rung_factor)[:-1])
        }
        parameters = [p for student in self._students.values() for p in student.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0)
        warmup = max(1, round(config.warmup_fraction * steps))
        generator = torch.Generator().manual_seed(self._seed)
        power = data.squares(data.y[:fitted], slice(fitted)).mean().clamp(min=1e-30)
        step = 0
        for _ in range(config.epochs):
            for rows in torch.randperm(fitted, generator=generator).split(per_step):
                for group in optimiser.param_groups:
                    group["lr"] = config.learning_rate * cosine(step, warmup, steps)
                # The losses are separate sums over separate parameters, so no gradient crosses
                # blocks.
                loss = _loss(data, self._learning, rows) / power
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                step += 1
                if step in rungs:
                    self._rung(rungs[step], step, steps, stop)
                    if not self._learning:
                        return

    @property
    def _learning(self) -> list[Block]:
        return [s for spec, s in self._students.items() if spec not in self._stopped]

    def _rung(self, rung: int, step: int, steps: int, stop: Stop) -> None:
        left: dict[BlockSpec, float] = {}
        for spec, student in self._students.items():
            if spec not in self._stopped:
                error = self._data.error(student.eval())
                self._rung_errors[spec].append(error)
                left[spec] = error / max(self._before[spec].error, 1e-30)
                student.train()
        for spec, reason in stop(rung, step, left).items():
            self._stopped[spec] = Stopped(step, steps, reason)
            # An optimiser leaves alone what has no gradient.
            self._students[spec].requires_grad_(False).zero_grad(set_to_none=True)


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
