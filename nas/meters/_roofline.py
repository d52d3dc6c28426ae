"""A forecast from a device's data sheet (Williams et al., doi 10.1145/1498765.1498785)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardware_profiles import HardwareProfile, with_measured_figures
from nas.config import TargetConfig
from nas.ir import BlockSpec, ChainShape, Conditions, Latency, Phase, SlotKind
from nas.meters._base import Meter, Part, Request
from nas.meters._calibration import Calibration
from nas.meters._operators import decoder_work, seen_tokens

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_KERNELS = {"attention": 8, "ffn": 6, "embed": 4, "head": 2}


@dataclass(frozen=True)
class _Work:
    """Floating-point operations and bytes moved between memory and processor."""

    flops: float
    bytes_moved: float


class RooflineMeter(Meter):
    """max(operations / reachable peak, bytes / bandwidth) + kernels * launch overhead.

    Operations are those of the block's kind; bytes are the weights once, the block's input and
    output, and the cache read and written; everything inside a block is taken as fused. It orders
    blocks well and is no measurement: `source` is `roofline`. With a calibration, which knows what
    was measured on the device, the block's operators are added up under the efficiencies fitted.
    """

    def __init__(
        self,
        config: TargetConfig,
        shape: ChainShape,
        profile: HardwareProfile,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__(config, shape)
        self.calibration = calibration
        if calibration is not None:
            calibration.require_target(config, profile)
            return
        self.profile = with_measured_figures(profile) if profile.name == "local" else profile
        self._flops_per_s = self.profile.peak_flops_per_s(config.dtype) * self.profile.efficiency
        self._bytes_per_s = self.profile.bandwidth_bytes_per_s()

    def conditions(self, phase: Phase) -> Conditions:
        if self.calibration is not None:
            return self.calibration.conditions(self.config, phase)
        return Conditions(
            phase=phase,
            batch=self.config.batch,
            prompt_tokens=self.config.prompt_tokens,
            dtype=self.config.dtype,
            threads=self.config.threads or self.profile.cores or 1,
            runtime="roofline",
            runtime_version="1",
            device=self.profile.description,
        )

    def measure(self, requests: Sequence[Request]) -> list[Latency]:
        return [self._forecast(request) for request in requests]

    def _forecast(self, request: Request) -> Latency:
        if self.calibration is not None:
            ms = self.calibration.curve.milliseconds(decoder_work(self.config, self.shape, request))
            return Latency.of([ms], self.conditions(request.phase), "roofline")
        tokens, past = self._tokens(request.phase)
        block = request.block
        if block is None:
            work = self._part(request.part, tokens)
        else:
            work = self._block(*block, tokens, past)
        seconds = max(work.flops / self._flops_per_s, work.bytes_moved / self._bytes_per_s)
        launches_us = _KERNELS[request.part] * self.profile.launch_overhead_us
        ms = 1e3 * seconds + 1e-3 * launches_us
        return Latency.of([ms], self.conditions(request.phase), "roofline")

    def _block(self, slot_kind: SlotKind, spec: BlockSpec, tokens: int, past: int) -> _Work:
        from nas.blocks import KINDS

        kind, batch = KINDS[spec.kind], self.config.batch
        seen = seen_tokens(self.shape, tokens, past)
        parameters = kind.parameters(self.shape, slot_kind, spec) + self.shape.norm_parameters
        # Keys and values, which a decoder also keeps.
        cached = batch * (past + 2 * tokens) * kind.cached_values_per_token(self.shape, spec)
        state = 2 * batch * tokens * self.shape.hidden_size
        return _Work(
            batch * kind.flops(self.shape, spec, tokens, seen),
            self._bytes(parameters + cached + state),
        )

    def _part(self, part: Part, tokens: int) -> _Work:
        rows, shape = self.config.batch * tokens, self.shape
        if part == "embed":
            return _Work(0.0, self._bytes(2 * rows * shape.hidden_size))
        if not shape.head_parameters:  # an encoder's states are pooled
            return _Work(rows * shape.hidden_size, self._bytes(rows * shape.hidden_size))
        weights = shape.head_parameters
        moved = weights + rows * (shape.hidden_size + shape.vocab_size)
        return _Work(2.0 * rows * weights, self._bytes(moved))

    def _tokens(self, phase: Phase) -> tuple[int, int]:
        """(tokens computed, tokens already in the cache)."""
        prompt = self.config.prompt_tokens
        return (prompt, 0) if phase == "prefill" else (1, prompt)

    def _bytes(self, values: float) -> float:
        return values * _BYTES[self.config.dtype]
