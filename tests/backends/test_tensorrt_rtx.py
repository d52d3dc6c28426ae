"""Engines are built for a GPU that is not here; what cannot be built says why."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from nas.backends.tensorrt_rtx import (
    EngineShapes,
    TextShapes,
    build_engine,
    build_engines,
    supported_sms,
)
from nas.backends.tensorrt_rtx._artifact import EngineManifest
from nas.errors import ArtifactError, CapabilityError, ConfigError, PassError

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("onnx")
from tests.backends.decoder_graphs import save_decoder

SHAPES = EngineShapes(batch=2, prompt_tokens=8, max_tokens=32)


def build(path: Path, folder: Path, sm: int = 89, dtype: str = "float16"):
    return build_engine(path, folder, sm=sm, dtype=dtype, shapes=SHAPES)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    return save_decoder(folder / "model.onnx", external_data=True)


@pytest.fixture(scope="module")
def artifact(network: Path, tmp_path_factory: pytest.TempPathFactory):
    return build(network, tmp_path_factory.mktemp("engines"))


def test_the_engine_is_whole_and_named_after_what_it_holds_for(artifact) -> None:
    import tensorrt_rtx

    manifest = artifact.manifest
    assert artifact.path.stat().st_size == manifest.engine_bytes > 0
    assert hashlib.sha256(artifact.path.read_bytes()).hexdigest() == manifest.engine_sha256
    name = artifact.folder.name
    assert name.startswith(f"tensorrt_rtx-{tensorrt_rtx.__version__}-sm89-float16-")
    assert artifact.path.name == f"model-{name}.engine"


def test_nothing_else_is_left_beside_it(artifact) -> None:
    assert sorted(p.name for p in artifact.folder.parent.iterdir()) == [artifact.folder.name]
    names = {path.name for path in artifact.folder.iterdir()}
    assert names == {artifact.path.name, "build.log", "manifest.json"}


def test_the_manifest_reads_back_and_the_log_holds_every_level(artifact) -> None:
    text = (artifact.folder / "manifest.json").read_text()
    assert EngineManifest.model_validate_json(text) == artifact.manifest
    levels = {
        line.split(":")[0] for line in (artifact.folder / "build.log").read_text().split("\n")
    }
    assert {"INFO", "WARNING", "VERBOSE"} <= levels


def test_profiles_cover_prefill_on_an_empty_cache_and_decode_of_one_token(artifact) -> None:
    prefill, decode = artifact.manifest.profiles["prefill"], artifact.manifest.profiles["decode"]
    assert prefill["input_ids"] == [[1, 1], [2, 8], [2, 32]]
    assert prefill["past_key_values.0.key"] == [[1, 1, 0, 16], [2, 1, 0, 16], [2, 1, 0, 16]]
    assert decode["input_ids"] == [[1, 1], [2, 1], [2, 1]]
    assert decode["attention_mask"] == [[1, 2], [2, 9], [2, 32]]
    assert decode["past_key_values.0.value"] == [[1, 1, 1, 16], [2, 1, 8, 16], [2, 1, 31, 16]]


def test_commands_run_each_profile(artifact) -> None:
    command = artifact.manifest.commands["decode"]
    assert command.startswith("POLYGRAPHY_USE_TENSORRT_RTX=1 polygraphy run ")
    assert "--optimization-profile 1" in command
    assert "'past_key_values.0.key:[2,1,8,16]'" in command


def test_the_weights_and_the_shapes_are_part_of_the_name(
    network: Path, artifact, tmp_path: Path
) -> None:
    copy = tmp_path / network.name
    for path in network.parent.iterdir():
        shutil.copy(path, tmp_path)
    data = bytearray((tmp_path / "model.onnx.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "model.onnx.data").write_bytes(data)
    other_weights = build(copy, tmp_path / "engines")
    other_shapes = build_engine(
        network, tmp_path / "engines", sm=89, dtype="float16", shapes=EngineShapes(1, 8, 32)
    )
    assert len({artifact.folder.name, other_weights.folder.name, other_shapes.folder.name}) == 3


def test_a_second_build_replaces_the_first(network: Path, tmp_path: Path) -> None:
    first = build(network, tmp_path)
    (first.folder / "stray").touch()
    second = build(network, tmp_path)
    assert second.folder == first.folder
    assert not (second.folder / "stray").exists()


def test_turing_takes_float16(network: Path, tmp_path: Path) -> None:
    assert "-sm75-" in build(network, tmp_path, sm=75).folder.name


def test_an_unknown_sm_lists_the_known_ones(network: Path, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match=r"no engine for SM90; .*builds for 75, 80, 86, 89"):
        build(network, tmp_path, sm=90)
    assert 90 not in supported_sms()


@pytest.mark.parametrize(
    ("dtype", "sm", "opset", "message"),
    [
        ("bfloat16", 75, 20, "no bfloat16 units"),
        ("float32", 75, 20, "no float32 matrix products"),
        ("float32", 89, 23, "up to operator set 20, and this file has 23"),
    ],
)
def test_precisions_that_fail_are_refused_with_the_reason(
    tmp_path: Path, dtype: str, sm: int, opset: int, message: str
) -> None:
    path = save_decoder(tmp_path / "model.onnx", dtype, opset=opset)
    with pytest.raises(CapabilityError, match=message):
        build(path, tmp_path / "engines", sm=sm, dtype=dtype)
    assert not (tmp_path / "engines").exists()


def test_a_file_in_another_precision_is_refused(network: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weights are float16, the engine is to be bfloat16"):
        build(network, tmp_path, dtype="bfloat16")


def test_a_failed_build_shows_and_keeps_its_log(tmp_path: Path) -> None:
    path = save_decoder(tmp_path / "model.onnx", float32_head=True)
    with pytest.raises(PassError, match="FP32 GEMM is not supported") as caught:
        build(path, tmp_path / "engines", sm=75)
    (log,) = (tmp_path / "engines").iterdir()
    assert log.name.endswith(".failed.log")
    assert "FP32 GEMM" in log.read_text()
    assert str(caught.value).endswith(f"the whole log: {log}")


def test_a_file_that_does_not_parse_gives_the_parsers_reason(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(save_decoder(tmp_path / "model.onnx")))
    model.graph.node[-1].domain = "nobody"
    model.graph.node[-1].op_type = "Guess"
    model.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    onnx.save_model(model, str(tmp_path / "model.onnx"))
    with pytest.raises(PassError, match=r"cannot parse it: .*Guess"):
        build(tmp_path / "model.onnx", tmp_path / "engines")


def test_a_foreign_dimension_is_named(tmp_path: Path) -> None:
    path = save_decoder(tmp_path / "model.onnx", past_name="history")
    with pytest.raises(PassError, match=r"past_key_values\.0\.key: dimension 2 \(history\)"):
        build(path, tmp_path / "engines")


@pytest.mark.parametrize("content", [None, b"", b"no protobuf at all"])
def test_torn_files_are_artifact_errors(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        build(path, tmp_path / "engines")


def test_missing_weights_are_an_artifact_error(network: Path, tmp_path: Path) -> None:
    shutil.copy(network, tmp_path)
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data"):
        build(tmp_path / network.name, tmp_path / "engines")


def test_a_full_disk_leaves_the_earlier_engine_whole(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(network, tmp_path)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PassError, match="No space left on device"):
        build(network, tmp_path)
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == [first.folder.name]
    assert json.loads((first.folder / "manifest.json").read_text())["sm"] == 89


def test_without_the_package_the_command_is_named(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(CapabilityError, match=r"pip install -e '.\[rtx\]'"):
        build(network, tmp_path)


@pytest.mark.parametrize("sizes", [(0, 8, 32), (1, 0, 32), (1, 32, 32)])
def test_senseless_shapes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="engine shapes"):
        EngineShapes(*sizes)


def test_an_encoder_has_one_profile_for_texts_of_any_length(tmp_path: Path) -> None:
    from nas.backends.onnx import export_encoder
    from tests.encoders import tiny_encoder

    network = export_encoder(tiny_encoder(), tmp_path / "onnx", dtype="float16").path
    shapes = TextShapes(batch=4, tokens=16, max_tokens=64)
    built = build_engines(
        network, tmp_path, sms=[75, 89], dtype="float16", shapes=shapes, name="encoder"
    )
    assert [one.manifest.sm for one in built] == [75, 89]
    ids = [[1, 1], [4, 16], [4, 64]]
    for one in built:
        assert one.path.stat().st_size == one.manifest.engine_bytes
        inputs = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ids)
        assert one.manifest.profiles == {"prefill": inputs}


@pytest.mark.parametrize("sizes", [(0, 8, 16), (1, 0, 16), (1, 17, 16)])
def test_senseless_text_shapes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="engine shapes"):
        TextShapes(*sizes)
