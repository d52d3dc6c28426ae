"""Operations and bytes of a run, from the teacher's shape and the configuration alone.

What a token costs is counted once a layer and multiplied: `docs/scale.md` goes through it for
teachers of 8, 70 and 405 billion parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nas.blocks import KINDS
from nas.config import RunConfig, TeacherSamplesText
from nas.ir import (
    BlockSpec,
    Candidate,
    ChainShape,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    LinearMap,
    Slot,
    TransformerShape,
    in_float,
)

MIB = 2**20
_WORKING_SLOTS = 3
"""Copies of a slot at a time: the teacher's, its copy in float32, and a candidate."""


@dataclass(frozen=True)
class Gflop:
    """Work in GFLOP: `low`: products in the processor's fast format; `double`: factorisations in
    float64; `head`: products with a vocabulary, after which every logit is looked at."""

    low: float = 0.0
    double: float = 0.0
    head: float = 0.0

    def __add__(self, other: Gflop) -> Gflop:
        return Gflop(self.low + other.low, self.double + other.double, self.head + other.head)

    def __mul__(self, times: float) -> Gflop:
        return Gflop(times * self.low, times * self.double, times * self.head)

    __rmul__ = __mul__

    @property
    def total(self) -> float:
        return self.low + self.double + self.head


class Work:
    """What the passes of a run do and hold."""

    def __init__(
        self,
        config: RunConfig,
        shape: TransformerShape,
        candidates: tuple[Candidate, ...],
        *,
        streams: bool = False,
    ) -> None:
        self.config, self.shape, self.candidates = config, shape, candidates
        self.streams = streams
        self.students = 1 + len(config.baselines)
        self.exports = self._exports
        self.profiles = self._profiles
        self.length = config.data.sequence_length
        self.blocks = [self._parameters(s, KeepTeacher()) for s in shape.slots()]
        self.head_params = shape.head_parameters
        self.embeddings = shape.outside_parameters
        self.teacher_params = sum(self.blocks) + self.embeddings
        self.teacher_mib = 4 * self.teacher_params / MIB
        self.library_mib = sum(4 * self._parameters(c.slot, c.spec) for c in candidates) / MIB
        self.body = sum(self._flops(s, KeepTeacher()) for s in shape.slots())
        self.head = 2.0 * self.head_params

    # What the passes hold, in MiB.

    @property
    def resident_mib(self) -> float:
        """The teacher's weights that are in memory at a time, in float32."""
        if self.streams:
            return 4 * (self.embeddings + _WORKING_SLOTS * max(self.blocks)) / MIB
        return self.teacher_mib

    @property
    def build_mib(self) -> float:
        """State, input and output of a slot (of a streamed teacher in mapped files), weights, and
        the Gram matrix of a feed-forward in float64 with what eliminating takes."""
        activations = 0.0 if self.streams else 3 * self.activations_mib
        return self.resident_mib + activations + 32 * self.shape.ffn_width**2 / MIB

    @property
    def build_job_mib(self) -> float:
        """What the job of a slot holds, for whoever does it."""
        held = 2 * self.activations_mib + 4 * _WORKING_SLOTS * max(self.blocks) / MIB
        return held + 32 * self.shape.ffn_width**2 / MIB

    @property
    def activations_mib(self) -> float:
        """One state of all tokens that blocks are built from."""
        return 4 * self.config.build.tokens * self.shape.hidden_size / MIB

    @property
    def score_mib(self) -> float:
        return self.resident_mib * (1 if self.streams else 2)

    @property
    def scratch_mib(self) -> float:
        """Disk that mapped activations take meanwhile."""
        if not self.streams:
            return 0.0
        states = 4 * self._score_tokens * self.shape.hidden_size / MIB
        score, kept = self.config.score, 0.0
        if score.method != "replace_one":  # of all slots, and a gradient a draw
            kept = len(self.blocks) + score.draws
        if score.method != "one_backward":  # of a slot's candidates, side by side
            kept = max(kept, len(self.candidates) / len(self.blocks))
        return max(3 * self.activations_mib, kept * states)

    @property
    def build_transfer_mib(self) -> float:
        """To workers and back: input and output of each slot, its weights, and its blocks."""
        each = 2 * self.activations_mib * len(self.blocks)
        return each + 4 * sum(self.blocks) / MIB + self.built_mib

    @property
    def scored_by_workers(self) -> bool:
        """Whether scoring is jobs of slots. What races, or looks where the choice is, waits for
        scores before it asks for others, and is the work of the run's own process."""
        score = self.config.score
        return score.method == "replace_one" and not score.until_certain

    @property
    def score_transfer_mib(self) -> float:
        """To workers: the state before each slot. Each reads teacher and library for itself."""
        if not self.scored_by_workers:
            return 0.0
        return 4 * self._score_tokens * self.shape.hidden_size * len(self.blocks) / MIB

    @property
    def distill_mib(self) -> float:
        return (2 + 4 * self.students) * self.teacher_mib

    @property
    def refit_mib(self) -> float:
        """Every network with its state, the features of one slot, and its Gram matrix in float64
        with what solving takes."""
        tokens, width = self.config.assemble.refit_tokens, self.shape.ffn_width
        states = 4 * tokens * self.shape.hidden_size / MIB
        slot = (4 * tokens * width + 32 * width**2) / MIB
        return (1 + self.students) * (self.teacher_mib + states) + slot

    @property
    def survivors(self) -> int:
        """Candidates that are trained and scored, at most."""
        return math.floor(self.config.prune.keep * len(self.candidates))

    @property
    def built_mib(self) -> float:
        return self.library_mib * self.survivors / len(self.candidates)

    @property
    def data_mib(self) -> float:
        """Token ids of the windows whose number the configuration tells."""
        config = self.config.data
        known = (config.train_tokens or 0) + self._score_tokens + (config.evaluate_tokens or 0)
        return 8 * (known + sum(n * self.length for n, _ in self._sampled)) / MIB

    @property
    def sampling_reads_mib(self) -> float:
        """What a streamed teacher reads from its files: all blocks, for every token of a batch."""
        if not self.streams:
            return 0.0
        size = 4 if self.config.teacher.dtype == "float32" else 2
        steps = sum(
            math.ceil(windows / source.batch) * (self.length - max(1, source.prompt_tokens) + 1)
            for windows, source in self._sampled
        )
        return size * steps * sum(self.blocks) / MIB

    @property
    def _sampled(self) -> list[tuple[int, TeacherSamplesText]]:
        """Windows that the teacher writes, by source."""
        sources = [s for s in self.config.data.sources if isinstance(s, TeacherSamplesText)]
        return [(math.ceil(source.tokens / self.length), source) for source in sources]

    @property
    def drafts(self) -> tuple[int, float]:
        """Count and MiB of the closed forms that pruning keeps beside the library."""
        return (len(self.candidates), self.library_mib) if self.config.prune.keep < 1 else (0, 0)

    # What the passes do.

    @property
    def sampling(self) -> Gflop:
        """Text that the teacher writes: every token through the body, and the head."""
        tokens = sum(windows * self.length for windows, _ in self._sampled)
        return Gflop(low=tokens * self.body / 1e9, head=tokens * self.head / 1e9)

    @property
    def prune(self) -> Gflop:
        """The closed forms, all one-backward scores, and the trials, scored from their slot on."""
        config, count = self.config.prune, len(self.candidates)
        if config.keep == 1:
            return Gflop()
        trained = config.calibrate if self.config.build.epochs else 0
        fast = self._expansion(config.draws, self.candidates)
        made = self.walk + self.closed_forms + trained / count * self.training
        return made + fast + (trained + config.trials * count) * self._replaced

    @property
    def walk(self) -> Gflop:
        """The teacher once over the tokens that blocks are built from, by the run's own process."""
        return Gflop(low=self.config.build.tokens * self.body / 1e9)

    @property
    def build_jobs(self) -> Gflop:
        """What is left of building: independent by slot."""
        made = Gflop() if self.config.prune.keep < 1 else self.closed_forms
        return made + self.config.prune.keep * self.training

    @cached_property
    def _structures(self) -> list[tuple[Slot, BlockSpec]]:
        """What is made and trained: every structure once, whatever its precisions."""
        every = ((c.slot, self.shape.resolve(c.slot, in_float(c.spec))) for c in self.candidates)
        teacher = KeepTeacher()
        return [(s, b) for s, b in dict.fromkeys(every) if b != self.shape.resolve(s, teacher)]

    @cached_property
    def closed_forms(self) -> Gflop:
        """Of all candidates: features, their Gram matrices, factorisations, held-out errors."""
        total = Gflop()
        by_slot: dict[Slot, list[BlockSpec]] = {}
        for slot, spec in self._structures:
            by_slot.setdefault(slot, []).append(spec)
        known: dict[tuple[str, tuple[BlockSpec, ...]], Gflop] = {}
        for slot, specs in by_slot.items():
            key = (slot.kind, tuple(specs))
            if key not in known:
                known[key] = self._closed_forms_of(slot, specs)
            total += known[key]
        return total

    def _closed_forms_of(self, slot: Slot, specs: Sequence[BlockSpec]) -> Gflop:
        hidden, tokens = self.shape.hidden_size, self.config.build.tokens
        held_out = tokens * self.config.build.held_out_fraction
        fitted, teacher = tokens - held_out, self._flops(slot, KeepTeacher())
        low, double = 2 * held_out * sum(self._flops(slot, s) for s in specs), 0.0
        widths = [s.width for s in specs if isinstance(s, GatedFeedForward)]
        heads = [s for s in specs if isinstance(s, GroupedQueryAttention)]
        fewer = [s.query_heads * self.shape.head_dim for s in heads if s.query_heads]
        pooled = [s for s in heads if not s.query_heads]
        for full, kept in ((self.shape.ffn_width, widths), (self._queries, fewer)):
            if kept:
                low += fitted * (teacher + _moments(full, hidden))
                double += full**3 + full**3 / 3 + sum(_solved(k, hidden) for k in kept)
        for spec in pooled:
            low += fitted * (self._flops(slot, spec) + _moments(self._queries, hidden))
            double += _solved(self._queries, hidden)
        if any(isinstance(s, LinearMap) for s in specs):
            low += fitted * _moments(hidden, hidden)
            double += _solved(hidden, hidden)
        return Gflop(low=low / 1e9, double=double / 1e9)

    @property
    def training(self) -> Gflop:
        each = sum(self._flops(slot, spec) for slot, spec in self._structures)
        return Gflop(low=3.0 * self.config.build.epochs * self.config.build.tokens * each / 1e9)

    @property
    def refit(self) -> Gflop:
        """The teacher once; each student's blocks and their Gram matrices."""
        tokens, width = self.config.assemble.refit_tokens, self.shape.ffn_width
        if not tokens:
            return Gflop()
        walks = (1 + self.students) * tokens * self.body
        grams = self.students * self.shape.layers * tokens * _moments(width, self.shape.hidden_size)
        solved = self.students * self.shape.layers * _solved(width, self.shape.hidden_size)
        return Gflop(low=(walks + grams) / 1e9, double=solved / 1e9)

    @property
    def score_walk(self) -> Gflop:
        """The teacher twice over the scoring text: to its last state, and slot by slot."""
        if self.config.score.method == "one_backward":
            return Gflop()
        return Gflop(low=2 * self._score_tokens * self.body / 1e9)

    @property
    def score_jobs(self) -> Gflop:
        config, by_swaps = self.config.score, self.survivors * self._replaced
        if config.method == "replace_one":
            return by_swaps
        at_once = self._expansion(config.draws, self.candidates[: self.survivors])
        return at_once + config.focus_share * by_swaps if config.method == "focused" else at_once

    @property
    def _replaced(self) -> Gflop:
        """A candidate from its slot on: half of the network, and the head."""
        tokens = self._score_tokens
        return Gflop(low=tokens * self.body / 2 / 1e9, head=tokens * self.head / 1e9)

    @property
    def depth_cuts(self) -> Gflop:
        """Every run of layers left out in turn, where a baseline asks for the best one. How many
        layers go is known from costs; a quarter of them is taken here."""
        if not {"depth_cut", "depth_cut_within"}.intersection(self.config.baselines):
            return Gflop()
        tokens, left = self._score_tokens, 0.75
        starts = left * self.shape.layers + 1
        body = (left / 2 + 1 / self.shape.layers) * self.body
        return starts * Gflop(low=tokens * body / 1e9, head=tokens * self.head / 1e9)

    @property
    def refine(self) -> Gflop:
        """A round is an expansion, and a network for each halving of the radius and each swap."""
        config, tokens = self.config.refine, self._score_tokens
        looked_at = self.candidates[: 2 * self.shape.layers * config.options]
        network = Gflop(low=tokens * self.body / 1e9, head=tokens * self.head / 1e9)
        tried = config.radius.bit_length() + config.swaps
        return config.rounds * (self._expansion(config.draws, looked_at) + (1 + tried) * network)

    @property
    def _score_tokens(self) -> int:
        return self.config.data.score_sequences * self.length

    def _expansion(self, draws: int, candidates: Sequence[Candidate]) -> Gflop:
        """A forward pass, a backward pass to the states a draw, each candidate and the teacher's
        own block once; at the head, logits and their mean row."""
        tokens = self._score_tokens
        blocks = sum(self._flops(c.slot, c.spec) for c in candidates)
        low = tokens * ((2 + draws) * self.body + blocks)
        return Gflop(low=low / 1e9, head=2 * tokens * self.head / 1e9)

    @property
    def distill(self) -> Gflop:
        tokens = self.config.distill.steps * self.config.distill.batch_tokens
        low = tokens * (self.body + self.students * 3 * 0.7 * self.body)
        return Gflop(low=low / 1e9, head=4 * tokens * self.students * self.head / 1e9)

    @property
    def evaluate(self) -> Gflop:
        tokens = 2 * (self.config.data.evaluate_tokens or 20_000) * (1 + self.students)
        return Gflop(low=tokens * self.body / 1e9, head=tokens * self.head / 1e9)

    @property
    def _exports(self) -> int:
        """Units: of the teacher and all students to ONNX, else of the student alone."""
        formats = self.config.export.formats
        return len(formats) + ("onnx" in formats) * self.students

    @property
    def _profiles(self) -> int:
        """Units: a set of conditions each, and the time by layer. Of ONNX files alone."""
        target = self.config.target
        if target.meter != "onnxruntime" or "onnx" not in self.config.export.formats:
            return 0
        return 1 + len(target.scenarios) + (target.provider == "cpu")

    @property
    def _queries(self) -> int:
        return self.shape.query_heads * self.shape.head_dim

    def _parameters(self, slot: Slot, spec: BlockSpec) -> int:
        resolved = self.shape.resolve(slot, spec)
        return KINDS[resolved.kind].parameters(self.shape, slot.kind, resolved)

    def _flops(self, slot: Slot, spec: BlockSpec) -> float:
        """Of one token that sees half of a sequence."""
        resolved = self.shape.resolve(slot, spec)
        return KINDS[resolved.kind].flops(self.shape, slot.kind, resolved, 1, self.length // 2)


def _moments(width: int, targets: int) -> float:
    """Products of a token in the Gram and cross matrices of a layer's input."""
    return 2.0 * width * (width + targets)


def _solved(width: int, targets: int) -> float:
    """A Cholesky factorisation and its solve."""
    return width**3 / 3 + 2.0 * width**2 * targets


class JobMemory(NamedTuple):
    """What the job of a slot takes, for whoever does it, in MiB; 0 where nobody has counted."""

    build_mib: float
    score_mib: float


def job_memory(config: RunConfig, shape: ChainShape, *, streams: bool = False) -> JobMemory:
    """Of the jobs of a run."""
    if not isinstance(shape, TransformerShape):
        return JobMemory(0.0, 0.0)
    work = Work(config, shape, (), streams=streams)
    return JobMemory(work.build_job_mib, work.score_mib)
