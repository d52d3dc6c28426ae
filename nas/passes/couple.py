"""Couple: attention and feed-forward that a solution put into one layer learn together.

The second stage of local distillation (arXiv 2411.19146, section 3.1): blocks are made apart, each
beside the teacher's other half of the layer. What a solution kept of both is then trained as one,
from the teacher's state before the layer to its state after it, and stays where the held-out error
falls.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas._numerics import autocast
from nas.blocks import BlockContext
from nas.chain import Chain, SlotModule
from nas.config import AssembleConfig, BuildConfig
from nas.ir import Architecture, ChainShape, KeepTeacher, precision_of
from nas.passes.distill_blocks import cosine


@dataclass(frozen=True)
class Coupled:
    """Held-out errors of a layer, over the power of the teacher's own change of the stream, of its
    blocks as they were and after learning together; the lower one is what stays."""

    layer: int
    apart: float
    together: float

    @property
    def kept(self) -> bool:
        return self.together < self.apart


def pairs(shape: ChainShape, architecture: Architecture) -> Iterator[int]:
    """Numbers of the attention slots of layers of which both blocks were replaced, and one can be
    trained: not a skip, not one that rounds."""
    specs = [(slot, shape.resolve(slot, spec)) for slot, spec in architecture.items(shape)]
    for k, ((slot, first), (following, second)) in enumerate(itertools.pairwise(specs)):
        if (slot.kind, following.kind) != ("attention", "ffn") or slot.layer != following.layer:
            continue
        own = [shape.resolve(s, KeepTeacher()) for s in (slot, following)]
        if first == own[0] or second == own[1] or first.kind == second.kind == "skip":
            continue
        if precision_of(first) == precision_of(second) == "float":
            yield k


def couple(
    teacher: Chain,
    students: Mapping[str, Chain],
    windows: Tensor,
    config: AssembleConfig,
    build: BuildConfig,
    seed: int,
    advance: Callable[[int], None],
) -> dict[str, list[Coupled]]:
    """Train the pairs of `students` in place on token ids `windows` [sequences, tokens].

    The teacher is walked once for all of them. Batches, warm-up and the held-out share are those of
    local distillation. `advance` is called after each slot.
    """
    windows, at_once = windows.to(teacher.device), teacher.samples_at_once
    wanted = {name: set(pairs(chain.shape, chain.architecture)) for name, chain in students.items()}
    found: dict[str, list[Coupled]] = {name: [] for name in students}
    with torch.no_grad():
        parts = [teacher.embed_tokens(ids).float() for ids in windows.split(at_once)]
        state, context = torch.cat(parts), teacher.context(windows[:1])
    before = state
    for k in range(len(teacher.slots)):
        if any(k in numbers for numbers in wanted.values()):
            before = state.clone()
        state = _pass(teacher.slot(k), state, context, at_once)
        for name, student in students.items():
            if k - 1 in wanted[name]:
                lesson = _Lesson(before, state, context, at_once, build)
                layer = teacher.slot_ids[k].layer
                found[name].append(lesson.teach(student, k - 1, layer, config, seed))
        advance(1)
    return found


@torch.no_grad()
def _pass(slot: SlotModule, state: Tensor, context: BlockContext, at_once: int) -> Tensor:
    pieces = []
    for rows in state.split(at_once):
        with autocast(state.device.type):
            pieces.append(slot(rows, context).float())
    return torch.cat(pieces)


@dataclass(frozen=True)
class _Lesson:
    """The teacher's state before and after a layer [sequences, tokens, hidden], in float32."""

    before: Tensor
    after: Tensor
    context: BlockContext
    at_once: int
    build: BuildConfig

    @property
    def fitted(self) -> int:
        """Sequences that are learnt from; the others judge."""
        count = len(self.before)
        return count - min(count - 1, max(1, round(count * self.build.held_out_fraction)))

    def teach(
        self, student: Chain, k: int, layer: int, config: AssembleConfig, seed: int
    ) -> Coupled:
        """Train slots k and k + 1 of `student`; they stay as they were unless the error falls."""
        slots = [student.slot(k), student.slot(k + 1)]
        apart, best = self.error(slots), [copy.deepcopy(slot.branch) for slot in slots]
        branches = [slot.branch for slot in slots if slot.branch is not None]
        for branch in branches:
            branch.train().requires_grad_(True)
        self._optimise(slots, [p for b in branches for p in b.parameters()], config, seed)
        for branch in branches:
            branch.eval().requires_grad_(False)
        found = Coupled(layer, apart, self.error(slots))
        if not found.kept:
            for slot, earlier in zip(slots, best, strict=True):
                slot.branch = earlier
        return found

    @torch.no_grad()
    def error(self, slots: list[SlotModule]) -> float:
        """Squared error of the state after the layer, over the power of the teacher's change."""
        lost = power = 0.0
        for i in range(self.fitted, len(self.before), self.at_once):
            rows = slice(i, i + self.at_once)
            out = self._run(slots, self.before[rows])
            lost += float((out - self.after[rows]).pow(2).sum())
            power += float((self.after[rows] - self.before[rows]).pow(2).sum())
        return lost / max(power, 1e-30)

    def _run(self, slots: list[SlotModule], state: Tensor) -> Tensor:
        with autocast(state.device.type):
            for slot in slots:
                state = slot(state, self.context)
        return state.float()

    def _optimise(
        self,
        slots: list[SlotModule],
        parameters: list[nn.Parameter],
        config: AssembleConfig,
        seed: int,
    ) -> None:
        per_step = max(1, self.build.batch_tokens // self.before.shape[1])
        steps = config.couple_epochs * math.ceil(self.fitted / per_step)
        optimiser = torch.optim.AdamW(parameters, lr=config.couple_learning_rate, weight_decay=0.0)
        warmup = max(1, round(self.build.warmup_fraction * steps))
        generator = torch.Generator().manual_seed(seed)
        change = self.after[: self.fitted] - self.before[: self.fitted]
        power, step = change.pow(2).mean().clamp(min=1e-30), 0
        for _ in range(config.couple_epochs):
            for rows in torch.randperm(self.fitted, generator=generator).split(per_step):
                for group in optimiser.param_groups:
                    group["lr"] = config.couple_learning_rate * cosine(step, warmup, steps)
                out = self._run(slots, self.before[rows])
                loss = (out - self.after[rows]).pow(2).mean() / power
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                step += 1
