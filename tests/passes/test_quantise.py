"""Blocks of eight bits through the passes: made from finished blocks, chosen, trained, exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nas.blocks import weight_levels
from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import ConfigError, PassError
from nas.ir import (
    Architecture,
    Candidate,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    Precision,
    Slot,
)
from nas.passes import Artefacts
from nas.passes.assemble import assemble
from nas.passes.build import build, load_block
from nas.passes.export import onnx_path
from nas.passes.measure import option_costs
from nas.passes.report import report
from nas.run import RunDirectory

FFN = Slot(layer=1, kind="ffn")
SPACE = """
attention: {kv_heads: [1], linear: false, precision: [float, int8_dynamic]}
ffn: {linear: false, precision: [float, int8, int8_dynamic]}
"""


@pytest.fixture
def space(tmp_path: Path) -> str:
    path = tmp_path / "eight-bits.yaml"
    path.write_text(SPACE)
    return str(path)


def _candidate(width: int, precision: Any = "float") -> Candidate:
    return Candidate(slot=FFN, spec=GatedFeedForward(width=width, precision=precision))


def _weights(view: Artefacts, label: str) -> dict[str, torch.Tensor]:
    return load_file(view.context.run.path("library", FFN.id, label, "block.safetensors"))


def test_weights_are_those_of_the_trained_block_rounded(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(build={"epochs": 2})
    build(view.context, [_candidate(24), _candidate(24, "int8"), _candidate(48, "int8")])

    trained, rounded = _weights(view, "w24"), _weights(view, "w24-int8")
    for name, weight in trained.items():
        levels, step = weight_levels(weight)
        torch.testing.assert_close(rounded[name], levels * step[:, None])
    record = view.context.run.require(f"build/{FFN.id}/w24-int8").data
    assert record["kept"] == "quantised"
    assert record["trained_error"] is None
    k = view.context.shape.slots().index(FFN)
    own = view.context.teacher.chain.teacher_branch(k).state_dict()
    for name, weight in _weights(view, "w48-int8").items():
        levels, step = weight_levels(own[name])
        torch.testing.assert_close(weight, levels * step[:, None])


def test_halves_are_those_of_the_trained_block(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(build={"epochs": 2})
    build(view.context, [_candidate(24), _candidate(24, "float16")])

    trained, rounded = _weights(view, "w24"), _weights(view, "w24-float16")
    assert rounded.keys() == trained.keys()
    for name, weight in trained.items():
        np.testing.assert_array_equal(rounded[name].numpy(), weight.numpy().astype(np.float16))
    record = view.context.run.require(f"build/{FFN.id}/w24-float16").data
    assert (record["kept"], record["trained_error"]) == ("quantised", None)
    own = view.context.run.require(f"build/{FFN.id}/w24").data["trained_error"]
    assert record["initial_error"] == pytest.approx(own, rel=0.01)


def test_a_finished_block_is_not_trained_again(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = artefacts(build={"epochs": 1})
    build(view.context, [_candidate(24)])
    seen: list[int] = []
    import nas.passes.build as module

    train = module.train_blocks
    monkeypatch.setattr(module, "train_blocks", lambda *a: seen.append(len(a[1])) or train(*a))
    build(artefacts(build={"epochs": 1}).context, [_candidate(24, "int8_dynamic")])
    assert seen == [0]
    levels, step = weight_levels(_weights(view, "w24")["up_proj.weight"])
    torch.testing.assert_close(
        _weights(view, "w24-int8_dynamic")["up_proj.weight"], levels * step[:, None]
    )


def test_a_block_is_the_same_whether_its_float_form_is_a_candidate_or_not(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(build={"epochs": 1})
    build(view.context, [_candidate(24, "int8")])
    alone = _weights(view, "w24-int8")
    assert not view.context.run.path("library", FFN.id, "w24").exists()
    build(view.context, [_candidate(24)])
    levels, step = weight_levels(_weights(view, "w24")["gate_proj.weight"])
    torch.testing.assert_close(alone["gate_proj.weight"], levels * step[:, None])


def test_eight_bits_take_a_quarter_of_the_memory_and_the_same_parameters(
    artefacts: Callable[..., Artefacts], space: str
) -> None:
    view = artefacts(space=space)
    own, eight_bits = (
        option_costs(view.context, view.costs, FFN, spec)
        for spec in (KeepTeacher(), GatedFeedForward(width=48, precision="int8"))
    )
    assert own["params_m"] == eight_bits["params_m"]
    norm = 4 * view.context.shape.norm_parameters
    whole, stored = (2**20 * costs["memory_mib"] - norm for costs in (own, eight_bits))
    assert stored == pytest.approx(whole / 4 + 4 * (48 + 48 + 32))


def test_what_rounding_costs_is_scored(artefacts: Callable[..., Artefacts], space: str) -> None:
    view = artefacts(space=space)
    for slot in view.context.shape.slots():
        kinds = ["w48"] if slot.kind == "ffn" else ["kv2"]
        for structure in kinds:
            scores = view.scores[f"{slot.id}/{structure}-int8_dynamic"]
            assert (scores > 0).all()
            assert scores.mean() < view.scores[f"{slot.id}/skip"].mean()


def test_uniform_widths_lie_between_those_measured_in_float(
    artefacts: Callable[..., Artefacts], space: str
) -> None:
    view = artefacts(space=space, target={"hardware": "apple-m2"})
    measured = view.costs.entries
    assert {"ffn/w48", "ffn/w48-int8"} <= measured.keys()
    assert "ffn/w32" not in measured  # so that its latency is interpolated
    assert set(view.baselines["uniform_ffn"].choices.values()) == {GatedFeedForward(width=32)}


def test_a_run_chooses_eight_bits_and_exports_them_behind_gates(
    artefacts: Callable[..., Artefacts], space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    settings = {
        "space": space,
        "budgets": {"memory_mib": 0.075},
        "export": {"formats": ["huggingface", "onnx"]},
        "baselines": [],
    }
    view = artefacts(**settings)
    student = view.architectures["student"]
    labels = [spec.label for spec in student.choices.values()]
    assert any("int8" in label for label in labels)
    view.exported  # noqa: B018
    gates = view.context.run.require("export/onnx-student").data["gates"]
    assert gates[0]["value"] <= gates[0]["limit"]
    config = json.loads(view.context.run.path("student", "config.json").read_text())
    assert config["runtime_precision"] == {
        slot: spec.precision for slot, spec in student.choices.items() if "int8" in spec.label
    }
    assert view.quality["after"]["student"].kl_nats is not None
    assert report(view).exists()
    path = onnx_path(view.context, "student")
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}

    from nas.backends.onnx._quantised import QuantisedWeight

    steps = QuantisedWeight.steps
    monkeypatch.setattr(QuantisedWeight, "steps", lambda self: 1.5 * steps(self))
    again = artefacts(**settings, distill={"steps": 5})
    with pytest.raises(PassError, match=r"model\.onnx: .* is allowed"):
        again.exported  # noqa: B018
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    assert not [p for p in path.parent.parent.iterdir() if "unchecked" in p.name]


@pytest.mark.parametrize("precision", ["int8_dynamic", "float16"])
def test_distillation_trains_through_the_rounding(
    artefacts: Callable[..., Artefacts], precision: Precision
) -> None:
    view = artefacts()
    spec = GatedFeedForward(width=48, precision=precision)
    build(view.context, [_candidate(48, precision)])
    student = assemble(
        view.context.teacher.chain, Architecture(choices={FFN.id: spec}), view.context.run.root
    )
    block = load_block(view.context.run.root, view.context.shape, FFN, spec)
    assert block is not None
    student.requires_grad_(True)
    student(view.context.text.train[:2]).square().mean().backward()
    k = view.context.shape.slots().index(FFN)
    for parameter in student.slot(k).branch.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_engines_of_eight_bits_are_refused_by_name_before_any_pass(
    small_config: Callable[..., RunConfig], tmp_path: Path, space: str
) -> None:
    config = small_config(space=space, export={"formats": ["tensorrt_rtx"], "sm": [89]})
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(ConfigError, match="Q/DQ pairs with ranges from a calibration"):
        compile_run(config, run)
    assert not run.path("units").exists()


def test_drafts_of_eight_bits_are_rounded_closed_forms(
    artefacts: Callable[..., Artefacts], space: str
) -> None:
    view = artefacts(
        space=space, prune={"keep": 0.6, "calibrate": 4}, budgets={"memory_mib": 0.075}
    )
    names = {c.id for c in view.candidates}
    assert any("int8" in name for name in names)
    drafts = view.context.run.path("drafts", "layers.1.attention")
    plain, rounded = (
        load_file(drafts / f"{label}.safetensors") for label in ("kv1", "kv1-int8_dynamic")
    )
    for name, weight in plain.items():
        levels, step = weight_levels(weight)
        torch.testing.assert_close(rounded[name], levels * step[:, None])


def test_attention_of_eight_bits_keeps_its_cache_in_float() -> None:
    from nas.blocks import KINDS
    from tests.chains import tiny_shape

    shape, spec = tiny_shape(), GroupedQueryAttention(kv_heads=1, precision="int8")
    assert KINDS["gqa"].cached_values_per_token(shape, spec) == 2 * shape.head_dim
