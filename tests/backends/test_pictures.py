"""Exported classifiers of pictures: every file computes what the chain computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nas.backends.onnx import block_stack, check_classifier, export_classifier, save_model
from nas.backends.onnxruntime import OnnxClassifier, open_session
from nas.backends.pictures import check_folder, export_folder
from nas.blocks import BlockContext, build_block
from nas.chain import ConvChain, normalised
from nas.config import TargetConfig
from nas.errors import PassError
from nas.ir import Architecture, Skip
from nas.meters import OnnxRuntimeMeter, requests_for
from search_spaces import load_space
from tests.pictures import MIXED_PICTURES, picture_shape, pictures, tiny_classifier

VARIANTS = {
    "mixed": tiny_classifier(),
    "teacher": tiny_classifier(Architecture()),
    "projections, wide stem": tiny_classifier(
        MIXED_PICTURES,
        shape=picture_shape(shortcut="projection", stem_kernel=7, image_side=32),
    ),
    "bottleneck": tiny_classifier(Architecture(), shape=picture_shape(block="bottleneck")),
}


@pytest.fixture(params=VARIANTS, ids=str)
def chain(request: pytest.FixtureRequest) -> ConvChain:
    return VARIANTS[request.param]


def test_onnx_computes_the_network_for_any_number_of_pictures(
    chain: ConvChain, tmp_path: Path
) -> None:
    artifact = export_classifier(chain, tmp_path)
    side = chain.shape.image_side
    assert check_classifier(artifact, chain, pictures(3, side=side)) < 1e-4
    network = OnnxClassifier(artifact.path)
    batch = pictures(7, seed=1, side=side)
    said = torch.from_numpy(network.run(normalised(batch, chain.shape).numpy()))
    torch.testing.assert_close(said, chain(batch), atol=1e-4, rtol=0)
    assert network.time_prefill(2, 1) > 0


def test_the_onnx_gate_names_the_difference(tmp_path: Path) -> None:
    artifact = export_classifier(tiny_classifier(), tmp_path)
    with pytest.raises(PassError, match="does not compute this network"):
        check_classifier(artifact, tiny_classifier(seed=1), pictures(2))


def test_the_folder_holds_the_network_and_the_code_that_runs_it(
    chain: ConvChain, tmp_path: Path
) -> None:
    export_folder(chain, tmp_path, name="small")
    batch = pictures(3, side=chain.shape.image_side)
    assert check_folder(tmp_path, chain, batch, tolerance=1e-5) < 1e-5
    assert {path.name for path in tmp_path.iterdir()} >= {
        "model.safetensors",
        "config.json",
        "student.py",
        "README.md",
    }
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: value * 1.1 for name, value in weights.items()}, tmp_path / "model.safetensors"
    )
    with pytest.raises(PassError, match="does not hold this network"):
        check_folder(tmp_path, chain, batch, tolerance=1e-5)


def test_a_stack_is_the_block_so_many_times(tmp_path: Path) -> None:
    shape, seed = picture_shape(), 3
    for slot, spec in MIXED_PICTURES.items(shape):
        if isinstance(spec, Skip):
            continue
        save_model(block_stack(shape, slot.kind, spec, 2, seed=seed), tmp_path / "stack.onnx")
        stage = shape.stage(slot.kind)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            entry = nn.Conv2d(stage.channels, stage.channels, 3, padding=1)
            blocks = [build_block(shape, slot.kind, spec) for _ in range(2)]
        state = torch.rand(3, stage.channels, stage.side, stage.side)
        with torch.no_grad():
            expected = entry(state).relu().permute(0, 2, 3, 1).flatten(1, 2)
            for block in blocks:
                assert block is not None
                expected = (expected + block(expected, BlockContext(causal=False))).relu()
        session = open_session(tmp_path / "stack.onnx", 1)
        (found,) = session.run(None, {"state": state.numpy()})
        np.testing.assert_allclose(
            found, expected.unflatten(1, (stage.side,) * 2).permute(0, 3, 1, 2), atol=1e-4
        )


def test_every_block_of_the_space_is_measured() -> None:
    shape = picture_shape()
    candidates = load_space("resnet").candidates(shape)
    meter = OnnxRuntimeMeter(TargetConfig(batch=2, repeats=2, threads=1), shape)
    requests = requests_for(shape, candidates, ["prefill"])
    table = meter.cost_table(requests)
    assert table.conditions("prefill").prompt_tokens == 1
    assert table.fixed_ms("prefill") > 0
    keys = {f"{c.slot.kind}/{c.spec.label}" for c in candidates if c.spec.kind != "skip"}
    assert keys <= table.entries.keys()
    assert table.total_ms(shape, Architecture(), "prefill") > 0
