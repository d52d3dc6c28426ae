"""Layers: where teacher and student spend their time, from ONNX Runtime's own profile."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from hardware_profiles import load_profile, with_measured_figures
from nas.ir import Architecture, Phase
from nas.meters import seen_by
from nas.passes._context import PassContext
from nas.passes.export import onnx_path
from nas.profiling import (
    LayerProfile,
    LayerProfiles,
    by_layer,
    read_node_times,
    waterfall,
)
from nas.run import content_key, json_writer

_RUNS = 5


def profile_layers(
    context: PassContext, student: Architecture, keys: Mapping[str, str]
) -> LayerProfiles:
    """Run teacher and student in turns under the runtime's profiler, under the target's own
    conditions. A profiler slows small operators down: shares and differences are what counts.

    On a CPU alone: a GPU's providers join layers, or return before their work is done."""
    config, target = context.config, context.config.target.at_batch(context.batch)
    measured_here = target.meter == "onnxruntime" and target.provider == "cpu"
    if not measured_here or "onnx" not in config.export.formats:
        return LayerProfiles()
    conditions = (target.batch, target.prompt_tokens, target.threads, target.phases)
    key = content_key("layers", context.teacher_key, keys["student"], conditions)
    record = context.run.fetch("profile/layers", key)
    if record is not None:
        return LayerProfiles.model_validate(record.data)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="nas-layers-") as folder:
        phases = [_phase(context, student, phase, Path(folder)) for phase in target.phases]
    found = LayerProfiles(phases=tuple(phases))
    data, seconds = found.model_dump(mode="json"), time.perf_counter() - started
    context.run.store("profile/layers", key, {"layers.json": json_writer(data)}, data, seconds)
    return found


def _phase(context: PassContext, student: Architecture, phase: Phase, folder: Path) -> LayerProfile:
    from nas.backends.onnxruntime import network_timer, open_network

    shape = context.shape
    target = seen_by(context.config.target.at_batch(context.batch), shape)
    profile = load_profile(target.hardware)
    if profile.name == "local":
        profile = with_measured_figures(profile)
    networks = {"teacher": Architecture(), "student": student}
    opened = {
        name: open_network(
            onnx_path(context, name),
            shape,
            target.threads,
            trace=folder / f"{name}-{phase}",
        )
        for name in networks
    }
    for _ in range(_RUNS):
        for network in opened.values():
            network_timer(network, phase, target.batch, target.prompt_tokens)()
    layers = {
        name: by_layer(
            read_node_times(network.end_trace()), shape, networks[name], target, phase, profile
        )
        for name, network in opened.items()
    }
    steps = waterfall(layers["teacher"], layers["student"], shape, student)
    return LayerProfile(phase=phase, **layers, steps=steps)
