"""The teacher with any blocks of the library in its slots, without a copy of its weights."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nas.blocks import Block, BlockContext, convert
from nas.chain import Chain
from nas.ir import Architecture, BlockSpec, KeepTeacher, Slot
from nas.objectives import Objective, objective_of
from nas.streaming import StreamedChain

Loader = Callable[[Slot, BlockSpec], Block | None]
_KEPT_BYTES = 2**28
_STATES_BYTES = 2**29


class MixedNetwork:
    """Runs architectures. `load` reads a block; 256 MiB of those last used are kept, beside a
    streamed teacher only the last.

    `objective`: what says how far a network is from the teacher; by default that of the chain.
    """

    def __init__(self, teacher: Chain, load: Loader, objective: Objective | None = None) -> None:
        self.teacher, self._load = teacher, load
        self.objective = objective or objective_of(teacher)
        self._most_bytes = 0 if isinstance(teacher, StreamedChain) else _KEPT_BYTES
        self._blocks: OrderedDict[str, Block | None] = OrderedDict()
        self._kept_bytes = 0

    def block(self, k: int, spec: BlockSpec) -> Block | None:
        """The block of slot k in the teacher's number format; None for a skip."""
        if isinstance(spec, KeepTeacher):
            return self.teacher.teacher_branch(k)
        slot = self.teacher.slot_ids[k]
        name = f"{slot.id}/{spec.label}"
        if name not in self._blocks:
            block = self._load(slot, spec)
            if block is not None:
                convert(block, self.teacher.dtype)
            self._blocks[name] = block
            self._kept_bytes += _bytes(self._blocks[name])
            while self._kept_bytes > self._most_bytes and len(self._blocks) > 1:
                self._kept_bytes -= _bytes(self._blocks.popitem(last=False)[1])
        self._blocks.move_to_end(name)
        return self._blocks[name]

    def update(self, k: int, spec: BlockSpec, normed: Tensor, context: BlockContext) -> Tensor:
        """What the block adds to the residual stream, in float32 [sequences, tokens, hidden]."""
        block = self.block(k, spec)
        if block is None:
            return torch.zeros_like(normed, dtype=torch.float32)
        update: Tensor = block(normed, context)
        return update.float()

    def walk(
        self, state: Tensor, architecture: Architecture, ids: Tensor, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(normed input, residual stream with the update, what the next slot sees) of each slot in
        turn; `state`: before slot `start`."""
        context, specs = self.teacher.context(ids), architecture.items(self.teacher.shape)
        for k, (_, spec) in enumerate(specs):
            if k < start:
                continue
            slot = self.teacher.slot(k)
            normed = slot.normed(state)
            summed = state + self.update(k, spec, normed, context).to(state.dtype)
            state = slot.settle(summed)
            yield normed, summed, state

    def hidden(self, architecture: Architecture, ids: Tensor) -> Tensor:
        """Last state in float32 [sequences, tokens, hidden]."""
        state = self.teacher.embed_tokens(ids)
        for _, _, after in self.walk(state, architecture, ids):
            state = after
        return self.teacher.exact_hidden(state)


def _bytes(block: Block | None) -> int:
    return 0 if block is None else sum(p.nbytes for p in block.parameters())


class Realiser:
    """How far an architecture is from the teacher as it is, on text `ids` [sequences, tokens]:
    the KL of a language model.

    The residual streams of the last run are kept where they take no more than half a GiB: the next
    architecture runs from the first slot that differs.
    """

    @torch.no_grad()
    def __init__(self, network: MixedNetwork, ids: Tensor, batch_sequences: int = 8) -> None:
        self._network, self._pieces = network, ids.split(batch_sequences)
        self._states = [[network.teacher.embed_tokens(piece)] for piece in self._pieces]
        states = len(network.teacher.slot_ids) * sum(known[0].nbytes for known in self._states)
        streamed = isinstance(network.teacher, StreamedChain)
        self._keeps = not streamed and states <= _STATES_BYTES
        self._specs: list[BlockSpec] = []
        self._divergence = network.objective.divergence(self._hidden(Architecture()))

    @torch.no_grad()
    def __call__(self, architecture: Architecture) -> Tensor:
        """The measure of each sequence [sequences], in nats a token for a language model."""
        return self._divergence(self._hidden(architecture))

    def _hidden(self, architecture: Architecture) -> Tensor:
        specs = [spec for _, spec in architecture.items(self._network.teacher.shape)]
        both = zip(specs, self._specs, strict=bool(self._specs))
        start = sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], both))
        self._specs = specs if self._keeps else []
        return torch.cat(
            [
                self._last_state(architecture, piece, known, start)
                for piece, known in zip(self._pieces, self._states, strict=True)
            ]
        )

    def _last_state(
        self, architecture: Architecture, piece: Tensor, known: list[Tensor], start: int
    ) -> Tensor:
        """`known`: the state before each slot of the last run, up to `start` as in this one."""
        del known[start + 1 :]
        state = known[start]
        for _, _, after in self._network.walk(state, architecture, piece, start):
            state = after
            if self._keeps:
                known.append(state)
        return self._network.teacher.exact_hidden(state)
