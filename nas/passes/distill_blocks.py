"""Blockwise local distillation: the candidates of a slot, from its activations."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
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
    that it passed or stopped at, but for the last; `rung_steps`: the steps after which they were
    taken, `steps`: those of the whole schedule. `stopped`: the step, of all steps, and the reason,
    of a block that did not learn all the way."""

    built: Built
    initial_error: float
    trained_error: float | None
    kept: str
    rung_errors: tuple[float, ...] = ()
    stopped: Stopped | None = None
    rung_steps: tuple[int, ...] = ()
    steps: int = 0


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

    Rungs are places on the way of one schedule. Blocks learn each for itself, so one that learns
    all the way is the same with rungs and without. One follows the other as far as rungs allow:
    moments and gradients of all at once would be most of the memory of a build.
    """
    trainable = [b for b in built if b.block is not None]
    if config.epochs == 0 or not trainable:
        return [Trained(b, b.error, None, "closed_form") for b in built]
    power = _power(data)
    learners: dict[BlockSpec, _Learner] = {}
    *pauses, last = rung_ends(_steps(data, config), config.rungs, config.rung_factor)
    for rung, end in enumerate(pauses):
        for b in trainable:
            if rung == 0:
                learners[b.spec] = _Learner(data, b, power, config, seed)
            learners[b.spec].learn(end)
        _judge(rung, end, learners, stop)
    results: dict[BlockSpec, Trained] = {}
    for b in trainable:
        learner = learners.pop(b.spec, None) or _Learner(data, b, power, config, seed)
        learner.learn(last)
        results[b.spec] = learner.result()
    return [results.get(b.spec, Trained(b, b.error, None, "closed_form")) for b in built]


def _judge(rung: int, end: int, learners: Mapping[BlockSpec, _Learner], stop: Stop) -> None:
    """Stop those that the caller gives up after a rung."""
    going = {spec: learner for spec, learner in learners.items() if learner.stopped is None}
    left = {spec: learner.pause() for spec, learner in going.items()}
    for spec, reason in (stop(rung, end, left) if left else {}).items():
        going[spec].stop(reason)


class _Learner:
    """A copy of a block on its way through the schedule; at a rung it can pause, or stop."""

    def __init__(
        self, data: SlotData, before: Built, power: float, config: BuildConfig, seed: int
    ) -> None:
        self._data, self._before, self._power, self._config = data, before, power, config
        student = copy.deepcopy(before.block)
        assert student is not None
        self._student = student.train().requires_grad_(True)
        self._optimiser = torch.optim.AdamW(
            student.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True
        )
        self._batches = _batches(data, config, seed)
        self._steps, self._step = _steps(data, config), 0
        self._errors: list[float] = []
        self._paused: list[int] = []
        self.stopped: Stopped | None = None

    def learn(self, until: int) -> None:
        """Go on to a step, unless stopped."""
        if self.stopped is not None:
            return
        warmup = max(1, round(self._config.warmup_fraction * self._steps))
        for rows in itertools.islice(self._batches, until - self._step):
            for group in self._optimiser.param_groups:
                group["lr"] = self._config.learning_rate * cosine(self._step, warmup, self._steps)
            loss = _loss(self._data, self._student, rows) / self._power
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()
            self._step += 1

    def pause(self) -> float:
        """The share of the closed form's held-out error that is left."""
        self._errors.append(self._data.error(self._student.eval()))
        self._paused.append(self._step)
        self._student.train()
        return share_left(self._errors[-1], self._before.error)

    def stop(self, reason: str) -> None:
        self.stopped = Stopped(self._step, self._steps, reason)
        self._optimiser.zero_grad(set_to_none=True)
        self._optimiser.state.clear()

    def result(self) -> Trained:
        """The block as it is now, or its closed form where that is better."""
        self._optimiser.zero_grad(set_to_none=True)
        student = self._student.eval().requires_grad_(False)
        error = self._errors[-1] if self.stopped else self._data.error(student)
        found = _better(self._before, student, error)
        return replace(
            found,
            rung_errors=tuple(self._errors),
            stopped=self.stopped,
            rung_steps=tuple(self._paused),
            steps=self._steps,
        )


def share_left(error: float, initial_error: float) -> float:
    """The share of the closed form's held-out error that is left; a closed form may have none."""
    return error / max(initial_error, 1e-30)


def _better(before: Built, student: Block, error: float) -> Trained:
    if not error < before.error:
        return Trained(before, before.error, error, "closed_form")
    after = Built(before.spec, student, error, before.sliced_error)
    return Trained(after, before.error, error, "trained")


def _steps(data: SlotData, config: BuildConfig) -> int:
    return config.epochs * math.ceil(_fitted(data) / _per_step(data, config))


def _batches(data: SlotData, config: BuildConfig, seed: int) -> Iterator[Tensor]:
    """Rows of every step, in an order of each epoch's own."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(config.epochs):
        yield from torch.randperm(_fitted(data), generator=generator).split(_per_step(data, config))


def _fitted(data: SlotData) -> int:
    return data.x.shape[0] - data.held_out


def _per_step(data: SlotData, config: BuildConfig) -> int:
    return max(1, config.batch_tokens // data.tokens_a_sample)


def _power(data: SlotData) -> float:
    """Mean square of the teacher's output where blocks are fitted."""
    total, stop = 0.0, _fitted(data)
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
