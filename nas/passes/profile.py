"""Profile: the exported networks end to end on the target, predicted beside measured."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from nas.ir import Latency, Phase
from nas.passes._context import PassContext
from nas.passes.export import onnx_path
from nas.run import content_key, json_writer

if TYPE_CHECKING:
    from nas.backends.onnxruntime import OnnxDecoder

Measured = dict[str, dict[Phase, Latency]]


def profile(context: PassContext, keys: Mapping[str, str]) -> Measured:
    """Measured latency of teacher, student and baselines, by phase.

    All run in turns within one measurement, so that they meet the same machine.
    """
    config = context.config
    if config.target.meter != "onnxruntime" or "onnx" not in config.export.formats:
        return {}
    from nas.meters import create_meter

    meter = create_meter(config.target, context.shape)
    conditions = {phase: meter.conditions(phase) for phase in config.target.phases}
    key = content_key("profile", context.teacher_key, dict(keys), conditions, config.target.repeats)
    record = context.run.fetch("profile", key)
    if record is not None:
        return {
            name: {phase: Latency.model_validate(v) for phase, v in row.items()}
            for name, row in record.data.items()
        }
    started = time.perf_counter()
    measured = _measure(context, ["teacher", *keys])
    data = {
        name: {phase: latency.model_dump(mode="json") for phase, latency in row.items()}
        for name, row in measured.items()
    }
    seconds = time.perf_counter() - started
    context.run.store("profile", key, {"profile.json": json_writer(data)}, data, seconds)
    return measured


def _measure(context: PassContext, names: list[str]) -> Measured:
    from nas.backends.onnxruntime import OnnxDecoder
    from nas.meters import interleaved

    target = context.config.target
    decoders = {}
    for name in names:
        decoders[name] = OnnxDecoder(onnx_path(context, name), threads=target.threads)
    gc.collect()
    measured: Measured = {name: {} for name in names}
    with context.progress.task("profile", len(target.phases)) as advance:
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
