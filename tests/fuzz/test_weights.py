"""Weight files under mutation: safetensors folders, their index, GGUF, exported students, ONNX."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.backends.huggingface import export_huggingface, load_student
from nas.backends.tensorrt._network import read_network
from nas.errors import ArtifactError, ConfigError, NasError
from tests.chains import MIXED, tiny_chain
from tests.fuzz.limits import bounded
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import read_teacher
from tests.models import tiny_tokenizer

MUTATIONS = 60


@pytest.fixture(scope="session")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    pytest.importorskip("gguf", reason="needs the package gguf")
    from tests.teachers.test_gguf import _write

    return _write(tmp_path_factory.mktemp("gguf") / "t.gguf", "llama").read_bytes()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "student"
    export_huggingface(tiny_chain(architecture=MIXED), tiny_tokenizer(), folder, name="x")
    return folder


@pytest.fixture(scope="session")
def vits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A transformer over pictures in both layouts."""
    from tests.vits import random_timm_vit, save_tiny_vit, write_timm_vit

    said = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1 / 255}
    root = tmp_path_factory.mktemp("vits")
    folder = save_tiny_vit(root / "transformers", preprocessor=said)
    (root / "timm").mkdir()
    given = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config = {"architecture": "vit", "model_args": {"num_heads": 2}, "global_pool": "token"}
    model = random_timm_vit(layers=1, scales=True)
    write_timm_vit(model, root / "timm" / "model.safetensors", {**config, "pretrained_cfg": given})
    return {"transformers": folder, "timm": root / "timm"}


@pytest.fixture(scope="session")
def onnx_bytes() -> bytes:
    """A product with weights inside and a sum with weights beside."""
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    helper, single = onnx.helper, onnx.TensorProto.FLOAT
    inside = helper.make_tensor("a", single, (8, 8), [0.5] * 64)
    beside = onnx.TensorProto(name="b", data_type=single, dims=(8,), data_location=1)
    beside.external_data.add(key="location", value="m.onnx")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "a"], ["y"]),
            helper.make_node("Add", ["y", "b"], ["z"]),
        ],
        "g",
        [value("x", single, (1, 8))],
        [value("z", single, (1, 8))],
        [inside, beside],
    )
    opset = helper.make_opsetid("", 21)
    content: bytes = helper.make_model(graph, opset_imports=[opset]).SerializeToString()
    return content


def _try(read: Callable[[Path], object], path: Path) -> None:
    with bounded(), contextlib.suppress(NasError):
        read(path)


def _copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


@pytest.mark.parametrize("number", range(MUTATIONS))
def test_gguf(number: int, gguf_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.gguf"
    path.write_bytes(mutated(gguf_bytes, number))
    _try(read_teacher, path)


@pytest.mark.parametrize("number", range(MUTATIONS))
def test_a_gguf_header(number: int, gguf_bytes: bytes, tmp_path: Path) -> None:
    """Most of a file is weights; here only its first kilobytes change."""
    path = tmp_path / "t.gguf"
    path.write_bytes(mutated(gguf_bytes[:3000], 1000 + number) + gguf_bytes[3000:])
    _try(read_teacher, path)


@pytest.mark.parametrize("number", range(MUTATIONS))
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_teacher_folder(
    file: str, number: int, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = _copy(tiny_folder("llama"), tmp_path / "teacher")
    path = folder / file
    path.write_bytes(mutated(path.read_bytes(), number))
    _try(read_teacher, folder)


@pytest.mark.parametrize("number", range(MUTATIONS // 2))
@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("transformers", "config.json"),
        ("transformers", "preprocessor_config.json"),
        ("timm", "config.json"),
        ("timm", "model.safetensors"),
    ],
)
def test_a_transformer_over_pictures(
    layout: str, file: str, number: int, vits: dict[str, Path], tmp_path: Path
) -> None:
    folder = _copy(vits[layout], tmp_path / "teacher")
    path = folder / file
    content = path.read_bytes()
    # Of weights most is numbers: what names and shapes say is at the beginning.
    path.write_bytes(mutated(content[:3000], number) + content[3000:])
    _try(read_teacher, folder)


@pytest.mark.parametrize("number", range(MUTATIONS // 2))
def test_an_index(number: int, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = _copy(tiny_folder("llama"), tmp_path / "teacher")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model.safetensors"}}
    content = mutated(json.dumps(index).encode(), number)
    (folder / "model.safetensors.index.json").write_bytes(content)
    _try(read_teacher, folder)


@pytest.mark.parametrize("number", range(MUTATIONS))
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_an_exported_student(file: str, number: int, exported: Path, tmp_path: Path) -> None:
    folder = _copy(exported, tmp_path / "student")
    path = folder / file
    path.write_bytes(mutated(path.read_bytes(), number))
    _try(load_student, folder)


@pytest.mark.parametrize("number", range(MUTATIONS))
def test_onnx(number: int, onnx_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(mutated(onnx_bytes, number))
    _try(read_network, path)


def _safetensors(header: Any, length: int | None = None, data: bytes = b"\0" * 64) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


_ENTRY = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}


@pytest.mark.parametrize(
    "content",
    [
        _safetensors({"a": _ENTRY}, length=2**63),
        _safetensors({"a": _ENTRY}, length=2**32),
        _safetensors({"a": {**_ENTRY, "shape": [2**40, 2**40]}}),
        _safetensors({"a": {**_ENTRY, "shape": [2**62], "data_offsets": [0, 2**63]}}),
        _safetensors({"a": {**_ENTRY, "data_offsets": [64, 0]}}),
        _safetensors({"a": _ENTRY, "b": _ENTRY}),
        _safetensors({"a": {**_ENTRY, "dtype": "F31"}}),
        _safetensors({"../../a": _ENTRY}),
        _safetensors(b"[" * 100_000),
        _safetensors({"__metadata__": {"a": 1}}),
    ],
)
def test_what_a_safetensors_header_may_claim(
    content: bytes, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = _copy(tiny_folder("llama"), tmp_path / "teacher")
    (folder / "model.safetensors").write_bytes(content)
    with bounded(), pytest.raises(ConfigError):
        read_teacher(folder)


def _gguf(*parts: bytes, tensors: int = 0, pairs: int = 1) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + b"".join(parts)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


_DEEP = struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000 + struct.pack("<IQ", 4, 0)


@pytest.mark.parametrize(
    "content",
    [
        _gguf(pairs=2**63),
        _gguf(tensors=2**40, pairs=0),
        _gguf(struct.pack("<Q", 2**62)),
        _gguf(_text("a"), struct.pack("<IIQ", 9, 7, 2**40)),
        _gguf(_text("a"), struct.pack("<IIQ", 9, 8, 2**33)),
        _gguf(_text("a"), struct.pack("<IIQQ", 9, 8, 1, 2**60)),
        _gguf(_text("a"), _DEEP),
        _gguf(_text("a"), struct.pack("<I", 99)),
        _gguf(_text("general.alignment"), struct.pack("<II", 4, 0)),
        _gguf(_text("general.alignment"), struct.pack("<I", 8), _text("x")),
        _gguf(*(_text("a") + struct.pack("<II", 4, 1),) * 2, pairs=2),
        _gguf(_text("t"), struct.pack("<I", 2**31), tensors=1, pairs=0),
    ],
)
def test_what_a_gguf_header_may_claim(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.gguf"
    path.write_bytes(content)
    with bounded(), pytest.raises(ConfigError, match="not a whole GGUF file"):
        read_teacher(path)


@pytest.mark.parametrize("layers", [10**5, 10**9, 10**30])
def test_a_configuration_of_a_billion_layers_takes_no_memory(
    layers: int, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = _copy(tiny_folder("qwen2"), tmp_path / "teacher")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    with bounded(), pytest.raises(ConfigError, match="num_hidden_layers"):
        read_teacher(folder)


@pytest.mark.parametrize("name", ["../teacher/model.safetensors", "/etc/hostname", "..", "", 7])
def test_an_index_that_leaves_its_folder(name: object, exported: Path, tmp_path: Path) -> None:
    folder = _copy(exported, tmp_path / "student")
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ArtifactError, match="beside the index"):
        load_student(folder)


def test_external_data_that_leaves_its_folder(onnx_bytes: bytes, tmp_path: Path) -> None:
    import onnx

    (tmp_path / "secret").write_bytes(b"x")
    model = onnx.load_model_from_string(onnx_bytes)
    weights = model.graph.initializer.add(name="w", data_type=1, data_location=1)
    weights.external_data.add(key="location", value="../secret")
    path = tmp_path / "model" / "m.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="outside its folder"):
        read_network(path)
