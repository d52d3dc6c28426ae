"""Exported transformers over pictures: every file computes what the chain computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.backends.huggingface import check_vision_folder, export_vision_folder
from nas.backends.onnx import (
    block_stack,
    check_classifier,
    epilogue_model,
    export_classifier,
    prologue_model,
    save_model,
)
from nas.backends.onnx._stack import stack_slots
from nas.backends.onnxruntime import OnnxClassifier, open_session
from nas.blocks import KINDS, BlockContext
from nas.chain import VisionChain, normalised
from nas.config import TargetConfig
from nas.errors import PassError
from nas.ir import Architecture, FeedForward, GroupedQueryAttention, KeepTeacher, Skip
from nas.meters import OnnxRuntimeMeter, Request, create_meter, least_work, requests_for
from search_spaces import load_space
from tests.pictures import pictures
from tests.vits import CLASSES, MIXED_VIT, PLACES, SIDE, tiny_vit, vit_shape

VARIANTS = {
    "mixed": tiny_vit(),
    "teacher": tiny_vit(architecture=Architecture()),
    "embedding": tiny_vit(vit_shape(classes=0)),
    "distilled": tiny_vit(vit_shape(prefix_tokens=2, pooling="both")),
    "mean": tiny_vit(vit_shape(prefix_tokens=0, pooling="mean")),
    "mean, then the norm": tiny_vit(vit_shape(pooling="mean", pools_first=True, qkv_bias=False)),
}
UNIFORM = Architecture(
    choices={
        **{f"layers.{i}.ffn": FeedForward(width=24) for i in range(4)},
        "layers.1.attention": Skip(),
        "layers.1.ffn": Skip(),
    }
)
"""A layer is left out; the others are alike."""


@pytest.fixture(params=VARIANTS, ids=str)
def chain(request: pytest.FixtureRequest) -> VisionChain:
    return VARIANTS[request.param]


def test_onnx_computes_the_network_for_any_number_of_pictures(
    chain: VisionChain, tmp_path: Path
) -> None:
    artifact = export_classifier(chain, tmp_path)
    assert check_classifier(artifact, chain, pictures(3, side=SIDE)) < 1e-4
    network = OnnxClassifier(artifact.path)
    batch = pictures(7, seed=1, side=SIDE)
    said = torch.from_numpy(network.run(normalised(batch, chain.shape).numpy()))
    torch.testing.assert_close(said, chain(batch), atol=1e-4, rtol=1e-4)
    assert network.time_prefill(2, 1) > 0


def test_the_onnx_gate_names_the_difference(tmp_path: Path) -> None:
    artifact = export_classifier(tiny_vit(), tmp_path)
    with pytest.raises(PassError, match="does not compute this network"):
        check_classifier(artifact, tiny_vit(seed=1), pictures(2, side=SIDE))


def test_blocks_that_round_stay_within_what_that_allows(tmp_path: Path) -> None:
    mixed = {
        "layers.0.ffn": FeedForward(width=48, precision="int8_dynamic"),
        "layers.1.attention": GroupedQueryAttention(kv_heads=4, precision="int8"),
        "layers.1.ffn": FeedForward(width=48, precision="float16"),
    }
    chain = tiny_vit(architecture=Architecture(choices=mixed))
    artifact = export_classifier(chain, tmp_path)
    check_classifier(artifact, chain, pictures(3, side=SIDE))
    kinds = {node.op_type for node in _nodes(artifact.path)}
    assert {"MatMulInteger", "DequantizeLinear"} <= kinds


def _nodes(path: Path) -> list:
    import onnx

    return list(onnx.load(str(path), load_external_data=False).graph.node)


def test_the_folder_brings_its_code(chain: VisionChain, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForImageClassification

    export_vision_folder(chain, tmp_path / "s", name="small")
    batch = pictures(3, side=SIDE)
    assert check_vision_folder(tmp_path / "s", chain, batch, tolerance=1e-4) < 1e-4
    auto = AutoModelForImageClassification if chain.shape.classes else AutoModel
    model = auto.from_pretrained(tmp_path / "s", trust_remote_code=True).eval()
    with torch.no_grad():
        said = model(normalised(batch, chain.shape))
    found = said.logits if chain.shape.classes else said[1]
    if not (found == 0).all():  # a plain ViTModel asks for a pooler, which is nothing here
        torch.testing.assert_close(found, chain(batch), atol=1e-4, rtol=1e-4)
    weights = load_file(tmp_path / "s" / "model.safetensors")
    save_file(
        {n: v * 1.1 for n, v in weights.items()},
        tmp_path / "s" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(PassError, match="differ from the student's"):
        check_vision_folder(tmp_path / "s", chain, batch, tolerance=1e-4)


@pytest.mark.parametrize("prefix", [1, 2])
@pytest.mark.parametrize("classes", [0, CLASSES])
def test_a_student_of_like_layers_is_a_plain_one(prefix: int, classes: int, tmp_path: Path) -> None:
    """Loaded by transformers' own classes; nothing of ours lies in the folder."""
    from transformers import AutoModel, AutoModelForImageClassification

    chain = tiny_vit(vit_shape(prefix_tokens=prefix, classes=classes), UNIFORM)
    export_vision_folder(chain, tmp_path / "s", name="small")
    batch = pictures(3, side=SIDE)
    assert check_vision_folder(tmp_path / "s", chain, batch) < 1e-4
    assert not list((tmp_path / "s").glob("*.py"))
    auto = AutoModelForImageClassification if classes else AutoModel
    model = auto.from_pretrained(tmp_path / "s").eval()
    assert type(model).__name__.startswith("ViT" if prefix == 1 else "DeiT")
    assert (model.config.num_hidden_layers, model.config.intermediate_size) == (3, 24)
    with torch.no_grad():
        said = model(normalised(batch, chain.shape))
    found = said.logits if classes else said.last_hidden_state[:, 0]
    torch.testing.assert_close(found, chain(batch), atol=1e-4, rtol=1e-4)
    preprocessing = json.loads((tmp_path / "s" / "preprocessor_config.json").read_text())
    assert preprocessing["size"] == {"height": SIDE, "width": SIDE}
    assert preprocessing["image_mean"] == list(chain.shape.image_mean)


@pytest.mark.parametrize("architecture", [UNIFORM, MIXED_VIT], ids=["plain", "own code"])
def test_a_student_takes_pictures_and_names_classes_as_its_teacher(
    architecture: Architecture, tmp_path: Path
) -> None:
    from transformers import AutoConfig

    chain = tiny_vit(architecture=architecture)
    said = {
        "image_processor_type": "DeiTImageProcessor",
        "size": {"height": 18, "width": 18},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    names = ["tench", "crane", "crane", "goldfish", "stingray"]
    folder = tmp_path / "s"
    export_vision_folder(chain, folder, name="small", preprocessing=said, labels=names)
    written = json.loads((folder / "preprocessor_config.json").read_text())
    assert {key: written[key] for key in said} == said
    assert written["image_mean"] == list(chain.shape.image_mean)
    assert written["do_normalize"]
    assert written["rescale_factor"] == pytest.approx(1 / 255)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert config.id2label == dict(enumerate(names))
    assert (config.num_labels, config.label2id["goldfish"]) == (CLASSES, 3)
    assert check_vision_folder(folder, chain, pictures(3, side=SIDE)) < 1e-4


def test_a_student_read_back_is_a_teacher(tmp_path: Path) -> None:
    from nas.config import TeacherConfig
    from nas.teachers import load_teacher

    chain = tiny_vit(architecture=UNIFORM)
    export_vision_folder(chain, tmp_path / "s", name="small")
    again, batch = load_teacher(TeacherConfig(source=str(tmp_path / "s"))), pictures(2, side=SIDE)
    torch.testing.assert_close(again.chain(batch), chain(batch), atol=1e-5, rtol=1e-5)
    assert (again.shape.layers, again.shape.ffn_width) == (3, 24)


def test_a_stack_is_the_block_so_many_times(tmp_path: Path) -> None:
    shape, seed = vit_shape(), 3
    for slot, spec in MIXED_VIT.items(shape):
        if isinstance(spec, Skip):
            continue
        resolved = shape.resolve(slot, spec)
        save_model(block_stack(shape, slot.kind, resolved, 2, seed=seed), tmp_path / "stack.onnx")
        state = torch.rand(3, PLACES, shape.hidden_size)
        expected = state
        with torch.no_grad():
            for module in stack_slots(shape, slot.kind, resolved, 2, seed):
                expected = module(expected, BlockContext(causal=False))
        session = open_session(tmp_path / "stack.onnx", 1)
        (found,) = session.run(None, {"state": state.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_ends_of_a_network_are_measured_as_they_are(tmp_path: Path) -> None:
    shape = vit_shape()
    save_model(prologue_model(shape), tmp_path / "a.onnx")
    save_model(epilogue_model(shape), tmp_path / "b.onnx")
    (state,) = open_session(tmp_path / "a.onnx", 1).run(
        None, {"pixel_values": np.zeros((2, 3, SIDE, SIDE), np.float32)}
    )
    assert state.shape == (2, PLACES, shape.hidden_size)
    (logits,) = open_session(tmp_path / "b.onnx", 1).run(None, {"state": state})
    assert logits.shape == (2, CLASSES)


def test_every_block_of_the_space_is_measured() -> None:
    shape = vit_shape()
    candidates = load_space("vit").candidates(shape, 4)
    meter = OnnxRuntimeMeter(TargetConfig(batch=2, repeats=2, threads=1), shape)
    requests = requests_for(shape, candidates, ["prefill"])
    table = meter.cost_table(requests)
    assert table.conditions("prefill").prompt_tokens == 1
    assert table.fixed_ms("prefill") > 0
    keys = {f"{c.slot.kind}/{c.spec.label}" for c in candidates if c.spec.kind != "skip"}
    assert keys <= table.entries.keys()
    assert table.total_ms(shape, Architecture(), "prefill") > 0


def test_operations_are_those_of_all_places_of_a_picture() -> None:
    shape = vit_shape()
    slots = shape.slots()[:2]
    attention, ffn = (shape.resolve(slot, KeepTeacher()) for slot in slots)
    width = shape.hidden_size
    assert KINDS["ffn"].flops(shape, "ffn", ffn, 1, 1) == 2 * 2 * PLACES * width * 48
    projections, products = 2 * 4 * PLACES * width**2, 2 * 2 * PLACES**2 * width
    assert KINDS["gqa"].flops(shape, "attention", attention, 1, 1) == projections + products
    target = TargetConfig(hardware="rtx4090", meter="roofline", batch=3, dtype="float16")
    meter = create_meter(target, shape)
    work = least_work(meter.config, shape, Request("ffn", "prefill", ffn))
    assert work.flops == 3 * 2 * 2 * PLACES * width * 48
    patches = least_work(meter.config, shape, Request("embed", "prefill"))
    assert patches.flops == 3 * 2 * 16 * width * 3 * 4**2


def test_engines_take_any_number_of_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("onnx")
    from nas.backends.tensorrt import PictureShapes, build_engine, create_backend

    network = export_classifier(tiny_vit(), tmp_path / "onnx", dtype="float16").path
    built = build_engine(
        create_backend("tensorrt_rtx"),
        network,
        tmp_path,
        sms=[89],
        dtype="float16",
        shapes=PictureShapes(4),
        name="vit",
    )
    assert built.path.stat().st_size == built.manifest.engine_bytes > 0
    sizes = [[1, 3, SIDE, SIDE], [4, 3, SIDE, SIDE], [4, 3, SIDE, SIDE]]
    assert built.manifest.profiles == {"prefill": {"pixel_values": sizes}}
