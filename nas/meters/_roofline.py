"""A forecast from a device's data sheet (Williams et al., doi 10.1145/1498765.1498785)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardware_profiles import HardwareProfile, with_measured_figures
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import (
    BlockSpec,
    ChainShape,
    Conditions,
    Latency,
    Phase,
    PictureShape,
    SlotKind,
    as_text,
    precision_of,
)
from nas.meters._base import Meter, Part, Request
from nas.meters._calibration import Calibration
from nas.meters._operators import decoder_work, seen_tokens

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_KERNELS = {"attention": 8, "ffn": 6, "embed": 4, "head": 2}
_CONVOLUTION_KERNELS = 3  # of a block over pictures, whatever its stage
_CASTS = 2  # around a block of float16


@dataclass(frozen=True)
class LeastWork:
    """Floating-point operations, and the bytes that memory and processor must exchange;
    `half_flops`: those of the operations that are of float16 in a network of another format."""

    flops: float
    bytes_moved: float
    half_flops: float = 0.0

    def seconds_at(self, peak: float, half_peak: float | None) -> float:
        """Of the operations, at so many a second; `half_peak` may be None where none is of
        float16."""
        if not self.half_flops:
            return self.flops / peak
        assert half_peak is not None
        return (self.flops - self.half_flops) / peak + self.half_flops / half_peak


def least_work(config: TargetConfig, shape: ChainShape, request: Request) -> LeastWork:
    """The weights once, input and output, and the cache read and written; everything inside a block
    is taken as fused. Around a block of float16 stand two casts of the state, which is written and
    read once more by each, in halves; what its attention does with the cache stays as it is."""
    prompt, width = config.prompt_tokens, _BYTES[config.dtype]
    tokens, past = (prompt, 0) if request.phase == "prefill" else (1, prompt)
    if request.block is not None:
        return _block(config, shape, *request.block, tokens, past)
    flops, values = _part(config, shape, request.part, tokens)
    return LeastWork(flops, values * width)


def _block(
    config: TargetConfig,
    shape: ChainShape,
    slot_kind: SlotKind,
    spec: BlockSpec,
    tokens: int,
    past: int,
) -> LeastWork:
    from nas.blocks import KINDS, stored_bytes

    kind, batch, width = KINDS[spec.kind], config.batch, _BYTES[config.dtype]
    seen = seen_tokens(shape, tokens, past)
    weights = stored_bytes(shape, slot_kind, spec, width) + shape.norm_parameters * width
    kept = kind.cached_values_per_token(shape, spec) * shape.pixels(slot_kind)
    cached = batch * (past + 2 * tokens) * kept
    state = 2 * batch * tokens * shape.state_width(slot_kind) * shape.pixels(slot_kind)
    flops = batch * kind.flops(shape, slot_kind, spec, tokens, seen)
    moved = weights + (cached + state) * width
    if precision_of(spec) != "float16":
        return LeastWork(flops, moved)
    half_flops = batch * kind.flops(shape, slot_kind, spec, tokens, 0)
    return LeastWork(flops, moved + 2 * state * _BYTES["float16"], half_flops)


def _part(config: TargetConfig, shape: ChainShape, part: Part, tokens: int) -> tuple[float, float]:
    rows = config.batch * tokens
    if isinstance(shape, PictureShape):
        if part == "embed":
            return rows * shape.opening_flops, rows * 3 * shape.image_side**2
        weights = shape.head_parameters
        return 2.0 * rows * weights, weights + rows * shape.last_state
    shape = as_text(shape)
    if part == "embed":
        return 0.0, 2 * rows * shape.hidden_size
    weights = shape.head_parameters
    if not weights:  # an encoder's states are pooled
        return rows * shape.hidden_size, rows * shape.hidden_size
    return 2.0 * rows * weights, weights + rows * (shape.hidden_size + shape.vocab_size)


class RooflineMeter(Meter):
    """max(operations / reachable peak, bytes / bandwidth) + kernels * launch overhead.

    Operations and bytes are those of `least_work`. It orders blocks well and is no measurement:
    `source` is `roofline`. Blocks of float16 are computed at its peak, but for attention itself,
    and launch a cast before and after. Blocks of eight bits move less and are computed at the rate
    of the target's dtype: no profile states another. With a calibration, which knows what was
    measured on the device, the block's operators are added up under the efficiencies fitted; it
    knows of no other precision.
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
        self._flops_per_s = self._rate(config.dtype)
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
            if request.spec is not None and precision_of(request.spec) != "float":
                raise ConfigError(
                    f"target.calibration: its efficiencies are of {self.config.dtype}, and "
                    f"{request.key} is of another precision; measure with the meter onnxruntime "
                    f"or table, or set precision: float in the search space"
                )
            ms = self.calibration.curve.milliseconds(decoder_work(self.config, self.shape, request))
            return Latency.of([ms], self.conditions(request.phase), "roofline")
        work = least_work(self.config, self.shape, request)
        half_rate = self._rate("float16") if work.half_flops else None
        arithmetic_s = work.seconds_at(self._flops_per_s, half_rate)
        seconds = max(arithmetic_s, work.bytes_moved / self._bytes_per_s)
        kernels = _KERNELS.get(request.part, _CONVOLUTION_KERNELS)
        kernels += _CASTS if work.half_flops else 0
        ms = 1e3 * seconds + 1e-3 * kernels * self.profile.launch_overhead_us
        return Latency.of([ms], self.conditions(request.phase), "roofline")

    def _rate(self, dtype: str) -> float:
        """Operations a second in `dtype` that large products reach; raises ConfigError."""
        return self.profile.peak_flops_per_s(dtype) * self.profile.efficiency
