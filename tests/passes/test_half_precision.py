"""Half precision as a choice of the block: a run for a GPU that takes some, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from safetensors.torch import load_file

from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import GatedFeedForward, KeepTeacher, Slot, precision_of
from nas.passes import Artefacts
from nas.passes.export import onnx_path
from nas.passes.measure import option_costs
from nas.passes.report import report
from nas.report._strip import strip
from nas.report.summary import Summary
from nas.run import RunDirectory

FFN = Slot(layer=1, kind="ffn")
SPACE = """
attention: {kv_heads: [1], linear: false, precision: [float, float16]}
ffn: {width_percent: [50], linear: false, precision: [float, float16]}
"""


@pytest.fixture
def space(tmp_path: Path) -> str:
    path = tmp_path / "halves.yaml"
    path.write_text(SPACE)
    return str(path)


def test_a_run_for_a_gpu_chooses_some_halves_and_says_so(
    artefacts: Callable[..., Artefacts], space: str
) -> None:
    pytest.importorskip("onnxruntime")
    view = artefacts(
        space=space,
        budgets={"memory_mib": 0.115},
        export={"formats": ["huggingface", "onnx"]},
        baselines=[],
    )
    student = view.architectures["student"]
    halves = {s: b for s, b in student.choices.items() if precision_of(b) == "float16"}
    assert 0 < len(halves) < len(view.context.shape.slots())
    assert all(block.label.endswith("-float16") for block in halves.values())
    view.exported  # noqa: B018

    gates = view.context.run.require("export/onnx-student").data["gates"]
    assert gates[0]["name"] == "blocks that round"
    assert gates[0]["value"] < 0.1
    folder = view.context.run.path("student")
    config = json.loads((folder / "config.json").read_text())
    assert config["runtime_precision"] == dict.fromkeys(halves, "float16")
    stored = load_file(folder / "model.safetensors")
    part = {"attention": "self_attn.q_proj", "ffn": "mlp.down_proj"}
    for slot in view.context.shape.slots():
        weight = stored[f"model.layers.{slot.layer}.{part[slot.kind]}.weight"].numpy()
        assert weight.dtype == np.float32
        is_half = np.array_equal(weight, weight.astype(np.float16))
        assert is_half == (slot.id in halves), slot.id
    graph = onnx.load(str(onnx_path(view.context, "student")), load_external_data=False).graph
    of_half = {i.name for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT16}
    assert {name.split(".branch.")[0] for name in of_half} == set(halves)

    page = report(view)
    assert "in half precision" in page.read_text()
    summary = Summary.model_validate_json(page.with_name("summary.json").read_text())
    told = {slot.id: precision_of(slot.choice.block) for slot in summary.slots}
    assert {slot for slot, precision in told.items() if precision == "float16"} == set(halves)
    labels = {cell.label for cells in strip(summary).cells.values() for cell in cells if cell}
    assert any(label.endswith("\N{SUBSCRIPT ONE}\N{SUBSCRIPT SIX}") for label in labels)


def test_a_half_costs_half_the_memory_and_next_to_no_quality(
    artefacts: Callable[..., Artefacts], space: str
) -> None:
    view = artefacts(space=space)
    whole, half = (
        option_costs(view.context, view.costs, FFN, spec)
        for spec in (KeepTeacher(), GatedFeedForward(width=48, precision="float16"))
    )
    assert half["params_m"] == whole["params_m"]
    norm = 4 * view.context.shape.norm_parameters
    assert 2**20 * half["memory_mib"] - norm == (2**20 * whole["memory_mib"] - norm) / 2
    lost = view.scores[f"{FFN.id}/w48-float16"].mean()
    assert 0 <= lost < 0.01 * view.scores[f"{FFN.id}/skip"].mean()


def _refused(config: RunConfig, root: Path) -> str:
    run = RunDirectory.create(root)
    with pytest.raises(ConfigError) as error:
        compile_run(config, run)
    assert not run.path("units").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"target": {"hardware": "local"}}, "local is a processor"),
        ({"target": {"hardware": "local", "meter": "torch"}}, "local is a processor"),
        ({"target": {"hardware": "apple-m2"}}, "apple-m2 is a processor"),
        ({"target": {"dtype": "float16"}}, "float32 networks alone, not in float16"),
        ({"target": {"calibration": "any.json"}}, "its efficiencies are of float32"),
        (
            {"export": {"formats": ["tensorrt_rtx"]}},
            "export.engine_dtype: blocks of float16 are chosen in a float32 network",
        ),
    ],
)
def test_a_target_without_halves_is_refused_before_any_pass(
    small_config: Callable[..., RunConfig],
    tmp_path: Path,
    space: str,
    sections: dict[str, Any],
    message: str,
) -> None:
    assert message in _refused(small_config(space=space, **sections), tmp_path / "run")


def test_a_profile_without_a_peak_of_halves_is_refused_before_any_pass(
    small_config: Callable[..., RunConfig], tmp_path: Path, space: str
) -> None:
    known = Path("hardware_profiles/rtx4090.yaml").read_text()
    profile = {**yaml.safe_load(known), "name": "old", "peak_tflops": {"float32": 5}}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(profile))
    config = small_config(space=space, target={"hardware": str(tmp_path / "old.yaml")})
    assert "the profile old states no peak_tflops" in _refused(config, tmp_path / "run")


def test_a_gpu_of_this_machine_is_a_target_for_them(
    small_config: Callable[..., RunConfig], tmp_path: Path, space: str
) -> None:
    """Nothing but the missing provider is in the way."""
    target = {"hardware": "local", "meter": "onnxruntime", "provider": "cuda"}
    config = small_config(space=space, target=target)
    with pytest.raises(CapabilityError, match="no CUDAExecutionProvider here"):
        compile_run(config, RunDirectory.create(tmp_path / "run"))
