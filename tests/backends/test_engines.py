"""What every back end of engines promises, run on TensorRT-RTX, on a stand-in for two releases of
TensorRT and, where there is a GPU, on TensorRT; then what each does alone."""

from __future__ import annotations

import enum
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.backends import _gpu
from nas.backends.tensorrt import (
    EngineArtifact,
    EngineBackend,
    EngineShapes,
    TensorRt,
    TensorRtRtx,
    TextShapes,
    build_engine,
    create_backend,
)
from nas.backends.tensorrt._artifact import EngineManifest
from nas.errors import ArtifactError, CapabilityError, ConfigError, PassError

pytest.importorskip("onnx")
from tests.backends.decoder_graphs import save_decoder
from tests.backends.tensorrt_stand_in import OFFERED, StandIn

SHAPES = EngineShapes(batch=2, prompt_tokens=8, max_tokens=32)
BACKENDS = [
    "tensorrt_rtx",
    "tensorrt 10.13.3.9",
    "tensorrt 11.4.0.106",
    pytest.param("tensorrt", marks=pytest.mark.gpu),
]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[EngineBackend]:
    name, _, version = request.param.partition(" ")
    with pytest.MonkeyPatch.context() as patch:
        if version:
            patch.setitem(sys.modules, name, StandIn(version))
            patch.setattr(_gpu, "local_sm", lambda: 89)
        else:
            pytest.importorskip(name)
        if name == "tensorrt" and _gpu.local_sm() is None:
            pytest.skip("no GPU here")
        yield create_backend(name)


@pytest.fixture
def rtx() -> EngineBackend:
    pytest.importorskip("tensorrt_rtx")
    return TensorRtRtx()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """TensorRT 11 on an SM89."""
    module = StandIn("11.4.0.106")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(_gpu, "local_sm", lambda: 89)
    return module


def build(
    backend: EngineBackend, path: Path, folder: Path, sm: int | None = None, dtype: str = "float16"
) -> EngineArtifact:
    sm = sm or (89 if 89 in backend.sms() else backend.sms()[0])
    return build_engine(backend, path, folder, sms=[sm], dtype=dtype, shapes=SHAPES)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    return save_decoder(folder / "model.onnx", external_data=True)


@pytest.fixture(scope="module")
def artifact(
    backend: EngineBackend, network: Path, tmp_path_factory: pytest.TempPathFactory
) -> EngineArtifact:
    return build(backend, network, tmp_path_factory.mktemp("engines"))


def test_the_engine_is_whole_and_named_after_what_it_holds_for(
    backend: EngineBackend, artifact: EngineArtifact
) -> None:
    manifest = artifact.manifest
    assert artifact.path.stat().st_size == manifest.engine_bytes > 0
    assert hashlib.sha256(artifact.path.read_bytes()).hexdigest() == manifest.engine_sha256
    name = artifact.folder.name
    version = sys.modules[backend.name].__version__
    assert name.startswith(f"{backend.name}-{version}-sm{manifest.sms[0]}-float16-")
    assert (manifest.backend, manifest.version) == (backend.name, version)
    assert artifact.path.name == f"model-{name}.engine"


def test_nothing_else_is_left_beside_it(artifact: EngineArtifact) -> None:
    assert sorted(p.name for p in artifact.folder.parent.iterdir()) == [artifact.folder.name]
    names = {path.name for path in artifact.folder.iterdir()}
    assert names == {artifact.path.name, "build.log", "manifest.json"}


def test_the_manifest_reads_back_and_the_log_holds_every_level(artifact: EngineArtifact) -> None:
    text = (artifact.folder / "manifest.json").read_text()
    assert EngineManifest.model_validate_json(text) == artifact.manifest
    levels = {
        line.split(":")[0] for line in (artifact.folder / "build.log").read_text().split("\n")
    }
    assert {"INFO", "WARNING", "VERBOSE"} <= levels


def test_profiles_cover_prefill_on_an_empty_cache_and_decode_of_one_token(
    artifact: EngineArtifact,
) -> None:
    prefill, decode = artifact.manifest.profiles["prefill"], artifact.manifest.profiles["decode"]
    assert prefill["input_ids"] == [[1, 1], [2, 8], [2, 32]]
    assert prefill["past_key_values.0.key"] == [[1, 1, 0, 16], [2, 1, 0, 16], [2, 1, 0, 16]]
    assert decode["input_ids"] == [[1, 1], [2, 1], [2, 1]]
    assert decode["attention_mask"] == [[1, 2], [2, 9], [2, 32]]
    assert decode["past_key_values.0.value"] == [[1, 1, 1, 16], [2, 1, 8, 16], [2, 1, 31, 16]]


def test_commands_run_each_profile(artifact: EngineArtifact) -> None:
    rtx = artifact.manifest.backend == "tensorrt_rtx"
    command = artifact.manifest.commands["decode"]
    assert command.removeprefix("POLYGRAPHY_USE_TENSORRT_RTX=1 ").startswith("polygraphy run ")
    assert command.startswith("POLYGRAPHY") == rtx
    assert "--optimization-profile 1" in command
    assert "'past_key_values.0.key:[2,1,8,16]'" in command
    timing = artifact.manifest.timing_commands["decode"].split()
    assert timing[0] == ("tensorrt_rtx" if rtx else "trtexec")
    assert f"--loadEngine={artifact.path.name}" in timing
    assert "--useProfile=1" in timing
    assert "past_key_values.0.key:2x1x8x16" in command_shapes(timing)


def command_shapes(words: list[str]) -> list[str]:
    (shapes,) = [word for word in words if word.startswith("--shapes=")]
    return shapes.removeprefix("--shapes=").split(",")


def test_the_weights_and_the_shapes_are_part_of_the_name(
    backend: EngineBackend, network: Path, artifact: EngineArtifact, tmp_path: Path
) -> None:
    copy = tmp_path / network.name
    for path in network.parent.iterdir():
        shutil.copy(path, tmp_path)
    data = bytearray((tmp_path / "model.onnx.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "model.onnx.data").write_bytes(data)
    other_weights = build(backend, copy, tmp_path / "engines")
    other_shapes = build_engine(
        backend,
        network,
        tmp_path / "engines",
        sms=artifact.manifest.sms,
        dtype="float16",
        shapes=EngineShapes(1, 8, 32),
    )
    assert len({artifact.folder.name, other_weights.folder.name, other_shapes.folder.name}) == 3


def test_a_second_build_replaces_the_first(
    backend: EngineBackend, network: Path, tmp_path: Path
) -> None:
    first = build(backend, network, tmp_path)
    (first.folder / "stray").touch()
    second = build(backend, network, tmp_path)
    assert second.folder == first.folder
    assert not (second.folder / "stray").exists()


def test_a_file_in_another_precision_is_refused(
    backend: EngineBackend, network: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="weights are float16, the engine is to be bfloat16"):
        build(backend, network, tmp_path, dtype="bfloat16")


def test_a_file_that_does_not_parse_gives_the_parsers_reason(
    backend: EngineBackend, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(str(save_decoder(tmp_path / "model.onnx")))
    model.graph.node[-1].domain = "nobody"
    model.graph.node[-1].op_type = "Guess"
    model.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    onnx.save_model(model, str(tmp_path / "model.onnx"))
    with pytest.raises(PassError, match=r"cannot parse it: .*Guess"):
        build(backend, tmp_path / "model.onnx", tmp_path / "engines")


def test_a_foreign_dimension_is_named(backend: EngineBackend, tmp_path: Path) -> None:
    path = save_decoder(tmp_path / "model.onnx", past_name="history")
    with pytest.raises(PassError, match=r"past_key_values\.0\.key: dimension 2 \(history\)"):
        build(backend, path, tmp_path / "engines")


@pytest.mark.parametrize("content", [None, b"", b"no protobuf at all"])
def test_torn_files_are_artifact_errors(
    backend: EngineBackend, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        build(backend, path, tmp_path / "engines")


def test_missing_weights_are_an_artifact_error(
    backend: EngineBackend, network: Path, tmp_path: Path
) -> None:
    shutil.copy(network, tmp_path)
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data"):
        build(backend, tmp_path / network.name, tmp_path / "engines")


def test_a_full_disk_leaves_the_earlier_engine_whole(
    backend: EngineBackend, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(backend, network, tmp_path)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PassError, match="No space left on device"):
        build(backend, network, tmp_path)
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == [first.folder.name]
    assert json.loads((first.folder / "manifest.json").read_text())["sms"] == list(
        first.manifest.sms
    )


@pytest.mark.parametrize("sizes", [(0, 8, 32), (1, 0, 32), (1, 32, 32)])
def test_senseless_shapes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="engine shapes"):
        EngineShapes(*sizes)


@pytest.mark.parametrize("sizes", [(0, 8, 16), (1, 0, 16), (1, 17, 16)])
def test_senseless_text_shapes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="engine shapes"):
        TextShapes(*sizes)


def test_without_the_package_the_command_is_named(
    backend: EngineBackend, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sm = backend.sms()[0]
    monkeypatch.setitem(sys.modules, backend.name, None)
    with pytest.raises(CapabilityError, match=rf"pip install -e '.\[{backend.extra}\]'"):
        build(backend, network, tmp_path, sm)
    assert not list(tmp_path.iterdir())


def test_an_unknown_sm_lists_the_known_ones_and_builds_nothing(
    backend: EngineBackend, network: Path, tmp_path: Path
) -> None:
    first = build(backend, network, tmp_path)
    known = ", ".join(map(str, backend.sms()))
    where = r"( here)?; it builds for "
    with pytest.raises(CapabilityError, match=rf"no engine for SM12{where}{known}"):
        build_engine(
            backend,
            network,
            tmp_path,
            sms=[*first.manifest.sms, 12],
            dtype="float16",
            shapes=EngineShapes(1, 8, 32),
        )
    assert [path.name for path in tmp_path.iterdir()] == [first.folder.name]


# TensorRT-RTX


def test_turing_takes_float16(rtx: EngineBackend, network: Path, tmp_path: Path) -> None:
    assert "-sm75-" in build(rtx, network, tmp_path, sm=75).folder.name


def test_one_engine_is_for_all_targets(rtx: EngineBackend, network: Path, tmp_path: Path) -> None:
    alone = build(rtx, network, tmp_path, sm=89)
    shared = build_engine(
        rtx, network, tmp_path, sms=[120, 75, 89, 89], dtype="float16", shapes=SHAPES
    )
    assert shared.manifest.sms == (75, 89, 120)
    assert "-sm75-89-120-float16-" in shared.folder.name
    assert shared.manifest.engine_bytes < 1.5 * alone.manifest.engine_bytes
    assert shared.path.read_bytes() != alone.path.read_bytes()


def test_data_centre_gpus_are_unknown_to_it(
    rtx: EngineBackend, network: Path, tmp_path: Path
) -> None:
    with pytest.raises(CapabilityError, match=r"no engine for SM90; .*builds for 75, 80, 86, 89"):
        build(rtx, network, tmp_path, sm=90)


@pytest.mark.parametrize(
    ("dtype", "sm", "opset", "message"),
    [
        ("bfloat16", 75, 20, "no bfloat16 units"),
        ("float32", 75, 20, "no float32 matrix products"),
        ("float32", 89, 23, "up to operator set 20, and this file has 23"),
    ],
)
def test_precisions_that_fail_are_refused_with_the_reason(
    rtx: EngineBackend, tmp_path: Path, dtype: str, sm: int, opset: int, message: str
) -> None:
    path = save_decoder(tmp_path / "model.onnx", dtype, opset=opset)
    with pytest.raises(CapabilityError, match=message):
        build(rtx, path, tmp_path / "engines", sm=sm, dtype=dtype)
    assert not (tmp_path / "engines").exists()


def test_a_failed_build_shows_and_keeps_its_log(rtx: EngineBackend, tmp_path: Path) -> None:
    path = save_decoder(tmp_path / "model.onnx", float32_head=True)
    with pytest.raises(PassError, match="FP32 GEMM is not supported") as caught:
        build(rtx, path, tmp_path / "engines", sm=75)
    (log,) = (tmp_path / "engines").iterdir()
    assert log.name.endswith(".failed.log")
    assert "FP32 GEMM" in log.read_text()
    assert str(caught.value).endswith(f"the whole log: {log}")


def test_an_encoder_has_one_profile_for_texts_of_any_length(
    rtx: EngineBackend, tmp_path: Path
) -> None:
    from nas.backends.onnx import export_encoder
    from tests.encoders import tiny_encoder

    network = export_encoder(tiny_encoder(), tmp_path / "onnx", dtype="float16").path
    shapes = TextShapes(batch=4, tokens=16, max_tokens=64)
    built = build_engine(
        rtx, network, tmp_path, sms=[89], dtype="float16", shapes=shapes, name="encoder"
    )
    assert built.path.stat().st_size == built.manifest.engine_bytes
    ids = [[1, 1], [4, 16], [4, 64]]
    inputs = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ids)
    assert built.manifest.profiles == {"prefill": inputs}


def test_blocks_of_half_precision_stay_so_in_a_float32_engine(
    rtx: EngineBackend, tmp_path: Path
) -> None:
    """Strongly typed: what the file says of each product is what is built."""
    from nas.backends.onnx import export_onnx
    from nas.ir import Architecture, GatedFeedForward, GroupedQueryAttention
    from tests.chains import tiny_chain, tiny_shape

    choices = {
        "layers.0.attention": GroupedQueryAttention(kv_heads=2, precision="float16"),
        "layers.1.ffn": GatedFeedForward(width=512, precision="float16"),
    }
    chain = tiny_chain(tiny_shape(layers=2), Architecture(choices=choices))
    path = export_onnx(chain, tmp_path / "onnx").path
    mixed = build(rtx, path, tmp_path, dtype="float32")
    assert mixed.path.stat().st_size == mixed.manifest.engine_bytes
    log = (mixed.folder / "build.log").read_text()
    built = [line for line in log.splitlines() if re.match("Name: .*LayerType: gemm", line)]
    for part, kind in (
        ("layers.0.attention.branch.o_proj", "Half"),
        ("layers.1.ffn.branch.down_proj", "Half"),
        ("layers.0.ffn.node_linear", "Float"),
    ):
        (line, *_) = [line for line in built if line.startswith(f"Name: {part}")]
        ends = re.findall(r"(?:Inputs|Outputs): .*?Datatype: (\w+)", line)
        assert ends == [kind, kind], line
    with pytest.raises(ConfigError, match="weights are float32, the engine is to be float16"):
        build(rtx, path, tmp_path / "other")


def test_the_stand_in_offers_nothing_that_the_bindings_do_not_have() -> None:
    """TensorRT-RTX's come from the same source; what it leaves out differs by release."""
    trt = pytest.importorskip("tensorrt_rtx")
    for name, stands_in in OFFERED.items():
        public = {n for n in vars(stands_in) if not n.startswith("_")} - {"trt", "inputs", "path"}
        public -= {"shapes"}  # of the stand-in itself
        assert public
        assert not public - set(dir(getattr(trt, name)))


# TensorRT


def test_both_releases_get_the_same_network_and_profiles(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gpu, "local_sm", lambda: 89)
    calls = {}
    for version in ("10.13.3.9", "11.4.0.106"):
        module = StandIn(version)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        build(TensorRt(), network, tmp_path / version)
        ((flags,),) = module.called("create_network")
        assert flags == 1 << module.NetworkDefinitionCreationFlag.STRONGLY_TYPED.value
        assert module.called("build") == [("model.onnx", "DETAILED")]
        calls[version] = module.called("profile")
    assert calls["10.13.3.9"] == calls["11.4.0.106"]
    (prefill,), (decode,) = calls["11.4.0.106"]
    assert prefill["input_ids"] == ((1, 1), (2, 8), (2, 32))
    assert decode["past_key_values.0.key"] == ((1, 1, 1, 16), (2, 1, 8, 16), (2, 1, 31, 16))


def test_a_release_without_the_flag_is_strongly_typed_anyway(stand_in: StandIn) -> None:
    stand_in.NetworkDefinitionCreationFlag = enum.Enum("Flag", ("PREFER_JIT_PYTHON_PLUGINS",))
    assert TensorRt().network_flags() == 0


def test_a_build_that_fails_shows_and_keeps_the_log(
    stand_in: StandIn, network: Path, tmp_path: Path
) -> None:
    first = build(TensorRt(), network, tmp_path)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    stand_in.fails = True
    with pytest.raises(PassError, match="ERROR: no kernel was found") as caught:
        build(TensorRt(), network, tmp_path)
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before
    log = tmp_path / f"{first.folder.name}.failed.log"
    assert "INFO: gave up" in log.read_text()
    assert str(log) in str(caught.value)


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "10.12.0.36"])
def test_an_old_release_is_refused(
    version: str, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", StandIn(version))
    with pytest.raises(CapabilityError, match=rf"tensorrt {version} is too old"):
        build(TensorRt(), network, tmp_path)


def test_without_a_gpu_it_builds_nothing(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gpu, "local_sm", lambda: None)
    with pytest.raises(CapabilityError, match=r"there is none here; .* tensorrt_rtx"):
        TensorRt().require_sm(89)


def test_turing_has_no_bfloat16(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_decoder(tmp_path / "model.onnx", "bfloat16")
    monkeypatch.setattr(_gpu, "local_sm", lambda: 75)
    with pytest.raises(CapabilityError, match=r"SM75 .Turing. has no bfloat16 units"):
        build(TensorRt(), path, tmp_path / "engines", dtype="bfloat16")
    monkeypatch.setattr(_gpu, "local_sm", lambda: 90)
    built = build(TensorRt(), path, tmp_path / "engines", dtype="bfloat16")
    assert "-sm90-bfloat16-" in built.folder.name


@pytest.mark.parametrize(
    ("answer", "found"),
    [("8.9\n", 89), ("12.0\n9.0\n", 120), ("[N/A]\n", None), ("", None), (None, None)],
)
def test_the_driver_tells_the_gpu_where_torch_has_no_cuda(
    answer: str | None, found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if answer is None:
            raise FileNotFoundError(command[0])
        return subprocess.CompletedProcess(command, 0, answer, "")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    assert _gpu.local_sm() == found
