"""Where the time of a run's networks goes, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import RenderableType

from hardware_profiles import load_profile
from nas._tables import table
from nas._words import number
from nas.errors import ConfigError
from nas.ir import Architecture, Phase, parse_shape
from nas.profiling import (
    LayerProfile,
    LayerProfiles,
    LayerTime,
    NetworkLayers,
    by_layer,
    read_node_times,
)
from nas.readers._runs import read_config
from nas.readers._show import summary_of
from nas.run import RunDirectory

_COLUMNS = ("part", "block", "ms", "share", "GFLOP/s", "GB/s", "of the roof", "operators")


def layers_of(
    run: RunDirectory, timings: Path | None, layer_info: Path | None, phase: Phase
) -> LayerProfiles | NetworkLayers:
    """What the pass profile found; with `timings`, the student in a profile of `phase` that a
    runtime wrote elsewhere, for the run's target.

    Raises ArtifactError where the pass has not run yet, ConfigError for files that are no such
    profile, or that time other networks.
    """
    if timings is None:
        return LayerProfiles.model_validate(run.require("profile/layers").data)
    config, summary = read_config(run), summary_of(run)
    shape = parse_shape(run.require("teacher").data["shape"])
    student = Architecture(choices={slot.id: slot.choice.block for slot in summary.slots})
    hardware = load_profile(config.target.hardware)
    nodes = read_node_times(timings, layer_info)
    found = by_layer(nodes, shape, student, config.target, phase, hardware)
    if not any(layer.flops for layer in found.layers):
        raise ConfigError(
            f"{timings}: none of its layers names a part of the student; profile the ONNX file "
            f"or engine of this run, for TensorRT with --layer-info"
        )
    return found


def layers_tables(found: LayerProfiles | NetworkLayers) -> Iterable[RenderableType]:
    if isinstance(found, NetworkLayers):
        rows = [(one.part, one.block, *_figures(one), _operators(one)) for one in found.layers]
        yield table(f"{found.phase}: {number(found.ms)} ms", _COLUMNS, rows, right=_COLUMNS[2:7])
        return
    for profile in found.phases:
        yield _waterfall(profile)
        yield _side_by_side(profile)
    if not found.phases:
        yield "no layers: they are timed where target.meter is onnxruntime and onnx is exported"


def _waterfall(profile: LayerProfile) -> RenderableType:
    rows: list[tuple[object, ...]] = [("teacher", "", "", number(profile.teacher.ms))]
    rows += [
        (step.change, step.slots or "", f"{step.ms:+.3g}", number(step.after_ms))
        for step in profile.steps
    ]
    columns = ("change", "slots", "ms", "leaves ms")
    return table(f"{profile.phase}: from teacher to student", columns, rows, right=columns[1:])


def _side_by_side(profile: LayerProfile) -> RenderableType:
    columns = ("part", "teacher ms", "block", "ms", "share", *_COLUMNS[4:])
    rows = []
    parts = dict.fromkeys(
        layer.part for network in (profile.teacher, profile.student) for layer in network.layers
    )
    for part in parts:
        old, new = profile.teacher.of(part), profile.student.of(part)
        cells = (new.block, *_figures(new), _operators(new)) if new else ("skip", *[None] * 6)
        rows.append((part, number(old.ms) if old else None, *cells))
    return table(
        f"{profile.phase}: layer by layer", columns, rows, right=columns[1:2] + columns[3:8]
    )


def _figures(layer: LayerTime) -> tuple[str | None, ...]:
    roof = layer.roof_share
    return (
        number(layer.ms),
        f"{100 * layer.share:.1f} %",
        number(layer.gflops_per_s) if layer.flops else None,
        number(layer.gb_per_s) if layer.bytes_moved else None,
        None if roof is None else f"{100 * roof:.0f} %",
    )


def _operators(layer: LayerTime) -> str:
    """The three that take the most."""
    most = list(layer.operators.items())[:3]
    return ", ".join(
        f"{name or 'fused'} {100 * ms / layer.ms:.0f} %" for name, ms in most if layer.ms
    )
