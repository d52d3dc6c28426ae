"""Times by part of the decoder, beside the work that each part does and the hardware's roof."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from hardware_profiles import HardwareProfile
from nas.config import TargetConfig
from nas.ir import Architecture, ChainShape, Phase, Skip, precision_of
from nas.meters import LeastWork, Request, least_work
from nas.profiling._nodes import NodeTime

_NAMES = {"prologue": "embed", "epilogue": "head"}
ELSEWHERE = "elsewhere"


class LayerTime(BaseModel):
    """One slot, the embedding (`embed`), the head, or what several of them share.

    `block`: what stands there, such as `w768`. `share`: of the network's time. `flops` and
    `bytes_moved` are the least that it can do (`least_work`), 0 where nothing is known;
    `roof_share`: the time that the hardware's peak or bandwidth would take, over `ms`; None where
    the profile has no such figure. `operators`: milliseconds by operator, the most first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: str
    block: str = ""
    ms: NonNegativeFloat
    share: NonNegativeFloat
    flops: NonNegativeFloat = 0.0
    bytes_moved: NonNegativeFloat = 0.0
    roof_share: NonNegativeFloat | None = None
    operators: dict[str, float] = {}

    @property
    def gflops_per_s(self) -> float:
        """Achieved rate."""
        return self.flops / self.ms / 1e6 if self.ms else 0.0

    @property
    def gb_per_s(self) -> float:
        return self.bytes_moved / self.ms / 1e6 if self.ms else 0.0


class NetworkLayers(BaseModel):
    """Every part of a network in one phase, in the order of the chain; milliseconds of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Phase
    layers: tuple[LayerTime, ...]

    @property
    def ms(self) -> float:
        return sum(layer.ms for layer in self.layers)

    def of(self, part: str) -> LayerTime | None:
        return next((layer for layer in self.layers if layer.part == part), None)


def by_layer(
    nodes: Iterable[NodeTime],
    shape: ChainShape,
    architecture: Architecture,
    target: TargetConfig,
    phase: Phase,
    hardware: HardwareProfile | None = None,
) -> NetworkLayers:
    """Sum nodes to layers. A node of several parts is a row of its own, named after its ends, which
    does the work of all of them."""
    work = _work(shape, architecture, target, phase)
    times: dict[tuple[str, ...], dict[str, float]] = {}
    for node in nodes:
        operators = times.setdefault(node.parts, {})
        operators[node.operator] = operators.get(node.operator, 0.0) + node.ms
    total = sum(ms for operators in times.values() for ms in operators.values())
    order = {name: i for i, name in enumerate(work)}
    # No profile states a peak for them.
    eight_bits = {s.id for s, b in architecture.items(shape) if precision_of(b) == "int8_dynamic"}
    rows = []
    for parts, operators in times.items():
        known = sorted({_NAMES.get(p, p) for p in parts} & work.keys(), key=order.__getitem__)
        held = _between(known, list(work), len(parts) > 1)
        blocks, ms = [work[name][0] for name in held], sum(operators.values())
        least = _together(work[name][1] for name in held)
        row = LayerTime(
            part=_title(known),
            block=", ".join(dict.fromkeys(filter(None, blocks))),
            ms=ms,
            share=ms / total if total else 0.0,
            flops=least.flops,
            bytes_moved=least.bytes_moved,
            roof_share=None
            if any(name in eight_bits for name in held)
            else _roof_share(hardware, target.dtype, least, ms),
            operators=dict(sorted(operators.items(), key=lambda item: -item[1])),
        )
        rows.append((order.get(known[0], len(order)) if known else len(order), row))
    return NetworkLayers(phase=phase, layers=tuple(r for _, r in sorted(rows, key=lambda r: r[0])))


def _together(parts: Iterable[LeastWork]) -> LeastWork:
    every = list(parts)
    return LeastWork(
        sum(one.flops for one in every),
        sum(one.bytes_moved for one in every),
        sum(one.half_flops for one in every),
    )


def _title(known: list[str]) -> str:
    if not known:
        return ELSEWHERE
    return known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _between(known: list[str], every: list[str], spans: bool) -> list[str]:
    if not spans or len(known) < 2:
        return known
    return every[every.index(known[0]) : every.index(known[-1]) + 1]


def _work(
    shape: ChainShape, architecture: Architecture, target: TargetConfig, phase: Phase
) -> dict[str, tuple[str, LeastWork]]:
    """Part -> block, and the least that it does, in the order of the chain."""
    requests: dict[str, tuple[str, Request | None]] = {"embed": ("", Request("embed", phase))}
    for slot, spec in architecture.items(shape):
        resolved = shape.resolve(slot, spec)
        request = None if isinstance(resolved, Skip) else Request(slot.kind, phase, resolved)
        requests[slot.id] = resolved.label, request
    requests["head"] = "", Request("head", phase)
    found = {}
    for part, (block, request) in requests.items():
        work = least_work(target, shape, request) if request else LeastWork(0.0, 0.0)
        found[part] = block, work
    return found


def _roof_share(
    hardware: HardwareProfile | None, dtype: str, work: LeastWork, ms: float
) -> float | None:
    """After Williams et al., "Roofline" (doi:10.1145/1498765.1498785): the longer of both times."""
    if hardware is None or not ms or not (work.flops or work.bytes_moved):
        return None
    peaks: Mapping[str, float] = {str(name): value for name, value in hardware.peak_tflops.items()}
    needed = {dtype, *(["float16"] if work.half_flops else [])}
    if not needed <= peaks.keys() or hardware.bandwidth_gb_per_s is None:
        return None
    arithmetic_s = work.seconds_at(1e12 * peaks[dtype], 1e12 * peaks.get("float16", math.inf))
    least_s = max(arithmetic_s, work.bytes_moved / (hardware.bandwidth_gb_per_s * 1e9))
    return 1000 * least_s / ms
