"""Plan: what a run will make, take and need, before any of it is done.

Times are floating-point operations over this machine's own matrix rate, measured in a fraction of a
second in the format that the passes use, at the share of it that a pass was seen to reach.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from hardware_profiles import load_profile
from nas.config import RunConfig
from nas.ir import BlockSpec, Candidate, DecoderShape, KeepTeacher, Slot
from search_spaces import load_space

_MIB = 2**20
_EFFICIENCY = 0.4
_SECONDS_PER_MEASUREMENT = 2.5
_SECONDS_PER_EXPORT = 12.0


class PlanRow(BaseModel):
    """One pass: units to make, files in MiB, peak memory in MiB and seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pass_name: str
    units: int
    disk_mib: float
    memory_mib: float
    seconds: float


class Plan(BaseModel):
    """The forecast of a run, with what it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[PlanRow, ...]
    notes: tuple[str, ...]


def make_plan(config: RunConfig) -> Plan:
    """Forecast a run from the configuration and the teacher's shape; no weights are read."""
    from nas.teachers import read_shape, require_device

    shape = read_shape(config.teacher)
    multiple = load_profile(config.target.hardware).width_multiple
    candidates = load_space(config.space).candidates(shape, multiple)
    require_device(config.teacher.device)
    rate = matrix_rate_gflops(config.teacher.device)
    work = _Work(config, shape, candidates)
    rows = (
        _row("measure", work.requests, 0, 1500, work.requests * _SECONDS_PER_MEASUREMENT),
        _row("prune", *work.drafts, work.build_mib, work.prune_s(rate)),
        _row("build", work.survivors, work.built_mib, work.build_mib, work.build_s(rate)),
        _row("score", 2 * shape.layers, 1, work.teacher_mib * 2, work.score_gflop / rate),
        _row("solve", 1, 1, 200, 2),
        _row(
            "refine",
            min(1, config.refine.rounds),
            1,
            work.teacher_mib * 2,
            work.refine_gflop / rate,
        ),
        _row(
            "assemble",
            work.students if config.assemble.refit_tokens else 0,
            work.students * work.teacher_mib / 4 if config.assemble.refit_tokens else 0,
            work.refit_mib if config.assemble.refit_tokens else 0,
            work.refit_s(rate),
        ),
        _row(
            "distill",
            work.students,
            work.students * work.teacher_mib,
            work.distill_mib,
            work.distill_gflop / rate,
        ),
        _row(
            "export",
            work.exports,
            work.exports * work.teacher_mib,
            2 * work.teacher_mib,
            work.exports * _SECONDS_PER_EXPORT,
        ),
        _row("evaluate", 2, 1, work.students * work.teacher_mib, work.evaluate_gflop / rate),
    )
    notes = (
        f"teacher: {shape.layers} layers, {work.teacher_params / 1e6:.0f} M parameters",
        f"space: {len(candidates)} candidates of {2 * shape.layers} slots",
        f"this machine: {rate / _EFFICIENCY:.0f} GFLOP/s measured, {_EFFICIENCY:.0%} of it assumed",
        "whether the budgets can be met is known after the pass measure, before anything is built",
    )
    return Plan(rows=rows, notes=notes)


def matrix_rate_gflops(device: str) -> float:
    """The rate that a pass can count on: a measured matrix product times a seen share."""
    import torch

    from nas._numerics import compute_dtype

    size, dtype = 1024, compute_dtype(device)
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        float((a @ a).float().sum())
        best = min(best, time.perf_counter() - started)
    return _EFFICIENCY * 2 * size**3 / best / 1e9


class _Work:
    """Operations and bytes of a run, from shapes alone."""

    def __init__(
        self, config: RunConfig, shape: DecoderShape, candidates: tuple[Candidate, ...]
    ) -> None:
        from nas.meters import requests_for

        self.config, self.shape, self.candidates = config, shape, candidates
        tables = 1 + len(config.target.scenarios)
        self.requests = tables * len(requests_for(shape, candidates, config.target.phases))
        self.students = 1 + len(config.baselines)
        self.exports = self.students + 2
        self.length = config.data.sequence_length
        blocks = sum(self._parameters(s, KeepTeacher()) for s in shape.slots())
        self.head_params = shape.vocab_size * shape.hidden_size
        embeddings = self.head_params if shape.tied_embeddings else 2 * self.head_params
        self.teacher_params = blocks + embeddings
        self.teacher_mib = 4 * self.teacher_params / _MIB
        self.library_mib = sum(4 * self._parameters(c.slot, c.spec) for c in candidates) / _MIB
        self.body = sum(self._flops(s, KeepTeacher()) for s in shape.slots())
        self.head = 2.0 * self.head_params

    @property
    def build_mib(self) -> float:
        return self.teacher_mib + 16 * self.config.build.tokens * self.shape.hidden_size / _MIB

    @property
    def distill_mib(self) -> float:
        return (2 + 4 * self.students) * self.teacher_mib

    @property
    def refit_mib(self) -> float:
        """Every network with its state, the features of one slot, and its Gram matrix in float64
        with what solving takes."""
        tokens, width = self.config.assemble.refit_tokens, self.shape.ffn_width
        states = 4 * tokens * self.shape.hidden_size / _MIB
        slot = (4 * tokens * width + 32 * width**2) / _MIB
        return (1 + self.students) * (self.teacher_mib + states) + slot

    @property
    def survivors(self) -> int:
        """Candidates that are trained and scored, at most."""
        return math.floor(self.config.prune.keep * len(self.candidates))

    @property
    def built_mib(self) -> float:
        return self.library_mib * self.survivors / len(self.candidates)

    @property
    def drafts(self) -> tuple[int, float]:
        """Count and MiB of the closed forms that pruning keeps beside the library."""
        return (len(self.candidates), self.library_mib) if self.config.prune.keep < 1 else (0, 0)

    def prune_s(self, rate_gflops: float) -> float:
        """The closed forms, all one-backward scores, and the trials, scored from their slot on."""
        if self.config.prune.keep == 1:
            return 0.0
        trials = self.config.prune.calibrate
        fast = self._expansion_gflop(self.config.prune.draws, self.candidates)
        scored = self._score_tokens * trials * (self.body / 2 + self.head) / 1e9
        share = trials / len(self.candidates)
        made = self._closed_forms_gflop + share * self._training_gflop
        return (made + fast + scored) / rate_gflops

    def build_s(self, rate_gflops: float) -> float:
        walk = self.config.build.tokens * self.body / 1e9
        made = walk if self.config.prune.keep < 1 else self._closed_forms_gflop
        return (made + self.config.prune.keep * self._training_gflop) / rate_gflops

    @property
    def _closed_forms_gflop(self) -> float:
        tokens = self.config.build.tokens
        return (tokens * self.body + self._gram_flops(tokens)) / 1e9

    @property
    def _training_gflop(self) -> float:
        each = sum(self._flops(c.slot, c.spec) for c in self.candidates)
        return 3.0 * self.config.build.epochs * self.config.build.tokens * each / 1e9

    def refit_s(self, rate_gflops: float) -> float:
        """The teacher once; each student's blocks and their Gram matrices."""
        tokens = self.config.assemble.refit_tokens
        walks = (1 + self.students) * tokens * self.body
        return (walks + self.students * self._gram_flops(tokens)) / 1e9 / rate_gflops

    def _gram_flops(self, tokens: int) -> float:
        """Counted four times: sums in float32 run at some quarter of the low-precision rate."""
        return 4 * tokens * 2.0 * self.shape.ffn_width**2 * self.shape.layers

    @property
    def score_gflop(self) -> float:
        if self.config.score.method == "one_backward":
            return self._expansion_gflop(self.config.score.draws, self.candidates[: self.survivors])
        each = self.body / 2 + self.head
        return self._score_tokens * self.survivors * each / 1e9

    @property
    def refine_gflop(self) -> float:
        """A round is an expansion, and a network for each halving of the radius and each swap."""
        config = self.config.refine
        looked_at = self.candidates[: 2 * self.shape.layers * config.options]
        network = self._score_tokens * (self.body + self.head) / 1e9
        expansion = self._expansion_gflop(config.draws, looked_at) + network
        return config.rounds * (expansion + (config.radius.bit_length() + config.swaps) * network)

    @property
    def _score_tokens(self) -> int:
        return self.config.data.score_sequences * self.length

    def _expansion_gflop(self, draws: int, candidates: Sequence[Candidate]) -> float:
        """A forward pass, a backward pass to the states a draw, and each candidate once."""
        blocks = sum(self._flops(c.slot, c.spec) for c in candidates)
        passes = (1 + draws) * (self.body + self.head)
        return self._score_tokens * (passes + blocks) / 1e9

    @property
    def distill_gflop(self) -> float:
        tokens = self.config.distill.steps * self.config.distill.batch_tokens
        each = 3 * 0.7 * self.body + 4 * self.head
        return tokens * (self.body + self.students * each) / 1e9

    @property
    def evaluate_gflop(self) -> float:
        tokens = self.config.data.evaluate_tokens or 20_000
        return 2 * tokens * (1 + self.students) * (self.body + self.head) / 1e9

    def _parameters(self, slot: Slot, spec: BlockSpec) -> int:
        from nas.blocks import KINDS

        resolved = self.shape.resolve(slot, spec)
        return KINDS[resolved.kind].parameters(self.shape, slot.kind, resolved)

    def _flops(self, slot: Slot, spec: BlockSpec) -> float:
        from nas.blocks import KINDS

        resolved = self.shape.resolve(slot, spec)
        return KINDS[resolved.kind].flops(self.shape, resolved, 1, self.length // 2)


def _row(name: str, units: int, disk_mib: float, memory_mib: float, seconds: float) -> PlanRow:
    return PlanRow(
        pass_name=name,
        units=units,
        disk_mib=round(disk_mib, 1),
        memory_mib=round(memory_mib, 1),
        seconds=round(seconds, 1),
    )
