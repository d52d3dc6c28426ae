"""Profiles of runtimes, layer by layer, against sums made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles import load_profile
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import Architecture, GatedFeedForward, LinearMap, Skip
from nas.profiling import NetworkLayers, NodeTime, by_layer, read_node_times, waterfall
from tests.chains import tiny_chain, tiny_shape

EXAMPLES = Path(__file__).parent / "examples"
SHAPE = tiny_shape(layers=2)
TARGET = TargetConfig(prompt_tokens=8, threads=1)


def trace(*runs: dict[str, int]) -> list[dict[str, Any]]:
    """A trace of ONNX Runtime: microseconds of each node, run after run."""
    events: list[dict[str, Any]] = [{"cat": "Session", "name": "model_loading", "dur": 9}]
    for run in runs:
        events.append({"cat": "Session", "name": "model_run", "dur": sum(run.values())})
        for name, dur in run.items():
            args = {"op_name": name.split("_")[-1], "provider": "CPUExecutionProvider"}
            event = {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "args": args}
            events += [{"cat": "Node", "name": f"{name}_fence_before", "dur": 99}, event]
    return events


def written(folder: Path, document: object, name: str = "profile.json") -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_trace_gives_each_node_its_middle_time_and_part(tmp_path: Path) -> None:
    names = ("prologue.node_Gather", "layers.0.attention.n_MatMul", "Transpose_token_4")
    runs = [
        dict(zip(names, times, strict=True)) for times in ((90, 50, 9), (10, 30, 3), (12, 40, 5))
    ]
    nodes = read_node_times(written(tmp_path, trace(*runs)))
    assert [(n.operator, n.ms, n.parts) for n in nodes] == [
        ("Gather", 0.012, ("prologue",)),
        ("MatMul", 0.040, ("layers.0.attention",)),
        ("4", 0.005, ("layers.0.attention",)),  # put in by the runtime beside the product
    ]


def nodes(**ms: float) -> list[NodeTime]:
    parts = {"embed": "prologue", "head": "epilogue"}
    return [
        NodeTime(name, "MatMul", time, (parts.get(name, name.replace("_", ".")),))
        for name, time in ms.items()
    ]


def test_layers_add_up_and_stand_in_the_order_of_the_chain() -> None:
    times = {"head": 3.0, "layers_1_ffn": 4.0, "layers_0_attention": 2.0, "embed": 1.0}
    more = [NodeTime("again", "Add", 2.0, ("layers.0.attention",))]
    found = by_layer([*nodes(**times), *more], SHAPE, Architecture(), TARGET, "prefill")
    assert [(one.part, one.ms) for one in found.layers] == [
        ("embed", 1.0),
        ("layers.0.attention", 4.0),
        ("layers.1.ffn", 4.0),
        ("head", 3.0),
    ]
    assert found.ms == 12.0
    assert sum(one.share for one in found.layers) == pytest.approx(1)
    attention = found.of("layers.0.attention")
    assert attention is not None
    assert attention.operators == {"MatMul": 2.0, "Add": 2.0}


def test_rates_are_work_over_time_and_the_roof_is_the_longer_of_two() -> None:
    hardware = load_profile("rtx4090")
    chosen = Architecture(choices={"layers.0.ffn": GatedFeedForward(width=64)})
    found = by_layer(nodes(layers_0_ffn=0.5), SHAPE, chosen, TARGET, "prefill", hardware)
    (layer,) = found.layers
    weights = 3 * SHAPE.hidden_size * 64
    assert layer.flops == 2 * 8 * weights
    values = weights + SHAPE.hidden_size + 2 * 8 * SHAPE.hidden_size
    assert layer.bytes_moved == 4 * values
    assert layer.gflops_per_s == pytest.approx(layer.flops / 0.5e-3 / 1e9)
    assert hardware.bandwidth_gb_per_s is not None
    least_ms = max(
        layer.flops / hardware.peak_tflops["float32"] / 1e9,
        layer.bytes_moved / hardware.bandwidth_gb_per_s / 1e6,
    )
    assert layer.roof_share == pytest.approx(least_ms / 0.5)


def test_the_roof_of_halves_is_their_own() -> None:
    slow = {"peak_tflops": {"float32": 1e-6, "float16": 4e-6}}
    hardware = load_profile("rtx4090").model_copy(update=slow)
    spec = GatedFeedForward(width=64, precision="float16")
    chosen = Architecture(choices={"layers.0.ffn": spec})
    (layer,) = by_layer(nodes(layers_0_ffn=0.5), SHAPE, chosen, TARGET, "prefill", hardware).layers
    assert layer.block == "w64-float16"
    assert layer.roof_share == pytest.approx(layer.flops / 4e-6 / 1e9 / 0.5)
    unknown = hardware.model_copy(update={"peak_tflops": {"float32": 1e-6}})
    (layer,) = by_layer(nodes(layers_0_ffn=0.5), SHAPE, chosen, TARGET, "prefill", unknown).layers
    assert layer.roof_share is None


def layers(architecture: Architecture, **ms: float) -> NetworkLayers:
    return by_layer(nodes(**ms), SHAPE, architecture, TARGET, "decode")


def test_the_waterfall_leads_from_teacher_to_student() -> None:
    teacher = layers(
        Architecture(),
        embed=1.0,
        layers_0_attention=4.0,
        layers_0_ffn=8.0,
        layers_1_attention=4.0,
        layers_1_ffn=8.0,
        head=5.0,
    )
    chosen = Architecture(
        choices={
            "layers.0.ffn": GatedFeedForward(width=8),
            "layers.1.ffn": GatedFeedForward(width=8),
            "layers.1.attention": Skip(),
        }
    )
    student = layers(
        chosen, embed=1.0, layers_0_attention=4.5, layers_0_ffn=3.0, layers_1_ffn=3.5, head=4.0
    )
    steps = waterfall(teacher, student, SHAPE, chosen)
    assert [(s.change, s.slots, s.ms, s.after_ms) for s in steps] == [
        ("ffn: w8", 2, -9.5, 20.5),
        ("attention: skip", 1, -4.0, 16.5),
        ("blocks that are the same", 1, 0.5, 17.0),
        ("outside the slots", 0, -1.0, 16.0),
    ]
    assert steps[-1].after_ms == student.ms


@pytest.mark.parametrize("schema", ["bindings", "io_tensors"])
def test_layer_information_of_both_schemas_says_what_fused_layers_hold(schema: str) -> None:
    info = EXAMPLES / f"tensorrt_layers_{schema}.json"
    nodes = read_node_times(EXAMPLES / "tensorrt_profile.json", info)
    assert {n.name: n.parts for n in nodes} == {
        "__myl_Gath_myl0_0": ("prologue",),
        "__myl_FusedAttention_myl0_1": ("layers.0.attention",),
        "__myl_FfnAndNextAttention_myl0_2": ("layers.0.ffn", "layers.1.attention"),
        "__myl_FfnHead_myl0_3": ("layers.1.ffn", "epilogue"),
    }
    found = by_layer(nodes, SHAPE, Architecture(), TARGET, "prefill")
    assert [(one.part, one.ms) for one in found.layers] == [
        ("embed", 0.01),
        ("layers.0.attention", 0.04),
        ("layers.0.ffn to layers.1.attention", 0.06),
        ("layers.1.ffn to head", 0.09),
    ]
    fused = found.layers[2]
    assert fused.block == f"w{SHAPE.ffn_width}, kv{SHAPE.kv_heads}"
    alone = [
        by_layer(nodes_of, SHAPE, Architecture(), TARGET, "prefill").layers[0].flops
        for nodes_of in ([NodeTime("", "", 1.0, (part,))] for part in fused.part.split(" to "))
    ]
    assert fused.flops == pytest.approx(sum(alone))


def test_without_layer_information_only_names_tell(tmp_path: Path) -> None:
    rows = [{"count": 2}, {"name": "layers.0.ffn.node_MatMul", "timeMs": 5.0}]
    (node,) = read_node_times(written(tmp_path, rows))
    assert (node.ms, node.parts) == (2.5, ("layers.0.ffn",))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not a JSON file"),
        ({}, "neither a trace of ONNX Runtime nor a profile of TensorRT"),
        ([], "neither a trace"),
        (trace(), "no node was timed"),
        ([{"count": 1}, {"name": "a", "averageMs": "long"}], "not a profile that a runtime wrote"),
        (
            [{"cat": "Session", "name": "model_run"}, {"cat": "Node", "name": 3, "dur": None}],
            "no n",
        ),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_node_times(written(tmp_path, document))


@pytest.mark.parametrize(
    ("document", "message"),
    [({"Layers": 3}, "no list `Layers`"), ({"Layers": []}, "neither `I/O Tensors` nor `Bindings`")],
)
def test_what_is_no_layer_information_is_refused(
    tmp_path: Path, document: object, message: str
) -> None:
    info = written(tmp_path, document, "layers.json")
    with pytest.raises(ConfigError, match=message):
        read_node_times(EXAMPLES / "tensorrt_profile.json", info)


def test_every_slot_of_a_real_network_is_timed(tmp_path: Path) -> None:
    from nas.backends.onnx import export_onnx
    from nas.backends.onnxruntime import OnnxDecoder

    chosen = Architecture(choices={"layers.0.attention": LinearMap(), "layers.1.ffn": Skip()})
    chain = tiny_chain(SHAPE, chosen)
    decoder = OnnxDecoder(export_onnx(chain, tmp_path).path, 1, trace=tmp_path / "trace")
    for _ in range(3):
        decoder.time_prefill(1, 8)
    nodes = read_node_times(decoder.end_trace())
    found = by_layer(nodes, SHAPE, chosen, TARGET, "prefill")
    blocks = {one.part: one.block for one in found.layers}
    assert blocks == {
        "embed": "",
        "layers.0.attention": "linear",
        "layers.0.ffn": f"w{SHAPE.ffn_width}",
        "layers.1.attention": f"kv{SHAPE.kv_heads}",
        "head": "",
    }
    assert all(one.ms > 0 for one in found.layers)
