"""Profile: the exported networks end to end on the target, predicted beside measured."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from nas.ir import Latency, Phase
from nas.meters import CostTable, Meter, create_meter, interleaved, requests_for
from nas.passes._context import PassContext
from nas.passes.export import onnx_path
from nas.passes.measure import teacher_costs
from nas.progress import Advance
from nas.run import content_key, json_writer

if TYPE_CHECKING:
    from nas.backends.onnxruntime import OnnxDecoder

Measured = dict[str, dict[Phase, Latency]]


class Profile(BaseModel):
    """Latencies of whole networks by name, and the teacher's blocks measured again beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    networks: Measured = {}
    anchors: CostTable = CostTable(entries={})

    def pace(self, context: PassContext, table: CostTable, phase: Phase) -> float | None:
        """Time that the teacher's blocks take now, over what `table` says; None if not measured.

        1 on a machine that has not changed since the pass measure.
        """
        if phase not in self.anchors.phases:
            return None
        cost = f"{phase}_ms"
        now = teacher_costs(context, self.anchors)[cost]
        return now / teacher_costs(context, table)[cost]


def profile(context: PassContext, keys: Mapping[str, str]) -> Profile:
    """Measure teacher, student and baselines in every phase.

    All run in turns within one measurement, so that they meet the same machine. Predictions rest on
    a table that is older: half of the anchors' repeats come before the networks, half after.
    """
    config = context.config
    if config.target.meter != "onnxruntime" or "onnx" not in config.export.formats:
        return Profile()
    half = (config.target.repeats + 1) // 2
    meter = create_meter(config.target.model_copy(update={"repeats": half}), context.shape)
    conditions = {phase: meter.conditions(phase) for phase in config.target.phases}
    key = content_key(
        "profile with anchors", context.teacher_key, dict(keys), conditions, config.target.repeats
    )
    record = context.run.fetch("profile", key)
    if record is not None:
        return Profile.model_validate(record.data)
    started = time.perf_counter()
    with context.progress.task("profile", 2 + len(config.target.phases)) as advance:
        before = _anchors(context, meter)
        advance(1)
        networks = _measure(context, ["teacher", *keys], advance)
        after = _anchors(context, meter)
        advance(1)
    found = Profile(networks=networks, anchors=_joined(before, after))
    seconds = time.perf_counter() - started
    data = found.model_dump(mode="json")
    context.run.store("profile", key, {"profile.json": json_writer(data)}, data, seconds)
    return found


def _anchors(context: PassContext, meter: Meter) -> CostTable:
    return meter.cost_table(requests_for(context.shape, (), context.config.target.phases))


def _joined(first: CostTable, second: CostTable) -> CostTable:
    """Both tables' samples under each key."""
    return CostTable.of(
        (
            key,
            phase,
            latency.model_copy(
                update={"samples_ms": latency.samples_ms + second.latency(key, phase).samples_ms}
            ),
        )
        for key, row in first.entries.items()
        for phase, latency in row.items()
    )


def _measure(context: PassContext, names: list[str], advance: Advance) -> Measured:
    from nas.backends.onnxruntime import OnnxDecoder

    target = context.config.target
    decoders = {}
    for name in names:
        decoders[name] = OnnxDecoder(onnx_path(context, name), threads=target.threads)
    gc.collect()
    measured: Measured = {name: {} for name in names}
    for phase in target.phases:
        timers = {name: _timer(d, phase, context) for name, d in decoders.items()}
        samples = interleaved(timers, target.repeats, warmup=2)
        for name, decoder in decoders.items():
            conditions = decoder.conditions(phase, target.batch, target.prompt_tokens)
            measured[name][phase] = Latency.of(samples[name], conditions)
        advance(1)
    return measured


def _timer(decoder: OnnxDecoder, phase: Phase, context: PassContext) -> Callable[[], float]:
    target = context.config.target
    if phase == "prefill":
        return lambda: decoder.time_prefill(target.batch, target.prompt_tokens)
    return lambda: decoder.time_decode(target.batch, target.prompt_tokens)
