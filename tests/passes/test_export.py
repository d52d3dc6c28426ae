"""Exports: gates before names, and only what changed is written again."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.backends.providers import PROVIDERS
from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import CapabilityError, ConfigError, PassError
from nas.ir import Architecture
from nas.passes import Artefacts
from nas.passes.export import export, export_units
from nas.passes.preflight import preflight
from nas.passes.report import report
from nas.run import RunDirectory


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_failed_gate_fails_the_export_and_leaves_the_earlier_files(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = artefacts()
    first.exported  # noqa: B018
    folder = first.context.run.path("student")
    before = _bytes(folder)
    second = artefacts(distill={"steps": 5})
    monkeypatch.setattr("nas.passes.export._HUGGINGFACE_TOLERANCE", -1.0)
    with pytest.raises(PassError, match="differ"):
        second.exported  # noqa: B018
    assert _bytes(folder) == before
    assert not [p for p in folder.parent.iterdir() if "unchecked" in p.name]
    assert second.context.run.record("export/huggingface-student") is not None


def test_a_file_for_llama_cpp_comes_of_a_tokenizer_of_transformers(
    artefacts: Callable[..., Artefacts], tmp_path: Path, tiny_folder: Callable[[str], Path]
) -> None:
    """From the check before all passes to a file that llama.cpp has run."""
    for package in ("gguf", "llama_cpp"):
        pytest.importorskip(package)
    from nas.backends.deci import of_file
    from tests.backends.test_deci import _merging_tokenizer

    folder, space = shutil.copytree(tiny_folder("llama"), tmp_path / "t"), tmp_path / "space.yaml"
    _merging_tokenizer("<s> $A").save_pretrained(folder)
    space.write_text("attention: {linear: false}\nffn: {linear: false, width_percent: [50]}\n")
    view = artefacts(
        teacher={"source": str(folder)},
        space=str(space),
        export={"formats": ["gguf"], "greedy_tokens": 4},
    )
    preflight(view.context, ["export"])
    view.exported  # noqa: B018
    run = view.context.run
    assert of_file(run.path("gguf", "small.gguf"))["tokenizer.ggml.add_bos_token"][0] is True
    assert {gate["name"] for gate in run.require("export/gguf-student").data["gates"]} == {
        "logits",
        "greedy",
    }


def test_what_may_refuse_the_student_is_written_last(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = ["gguf", "decilm", "tensorrt_rtx", "onnx", "huggingface"]
    view = artefacts(export={"formats": formats, "sm": [89]})
    units: list[str] = []

    def unit(_: object, kind: str, name: str, *__: object) -> None:
        units.append(f"export/{kind}-{name}")

    monkeypatch.setattr("nas.passes.export._unit", unit)
    monkeypatch.setattr("nas.passes.export.engine_targets", lambda *_: {"tensorrt_rtx": (89,)})
    every = {"teacher": Architecture(), **view.architectures}
    export(view.context, view.architectures, dict.fromkeys(every, "key"))
    assert units[-2:] == ["export/decilm-student", "export/gguf-student"]
    assert len(units) == 4 + len(every)
    assert units == export_units(view.context, tuple(every))


def test_an_unrelated_setting_exports_nothing_again(artefacts: Callable[..., Artefacts]) -> None:
    artefacts().exported  # noqa: B018
    again = artefacts(target={"repeats": 3}, export={"sm": [89]})
    again.exported  # noqa: B018
    assert "export" not in again.context.run.tally.done


def test_engines_without_a_compute_capability_are_refused_before_anything_is_written(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(
        target={"hardware": "x86-avx512-amx"},
        space="decoder",
        export={"formats": ["huggingface", "tensorrt_rtx"]},
    )
    with pytest.raises(ConfigError, match=r"export\.sm"):
        view.exported  # noqa: B018
    assert not view.context.run.path("student").exists()


ENGINES = {"formats": ["tensorrt_rtx"], "sm": [89], "greedy_tokens": 2}


def _builder() -> None:
    for package in ("tensorrt_rtx", "onnx", "onnxruntime"):
        pytest.importorskip(package)


def _full(descriptor: int) -> None:
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".engine"):
        raise OSError(28, "No space left on device")


def _lose_fp16(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("nas.passes.export._LOW_PRECISION_TOLERANCE", -1.0)
    return r"model\.onnx: logits differ from torch's by up to .*, -1 is allowed"


def _fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(os, "fsync", _full)
    return "No space left on device; free space"


def _break_the_builder(monkeypatch: pytest.MonkeyPatch) -> str:
    import tensorrt_rtx

    monkeypatch.setattr(
        tensorrt_rtx.Builder, "build_serialized_network", lambda *_: None, raising=True
    )
    return "TensorRT-RTX built no engine for SM89; its log ends"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names files by /proc")
@pytest.mark.parametrize("fault", [_lose_fp16, _fill_the_disk, _break_the_builder])
def test_a_build_that_fails_leaves_the_earlier_engines(
    artefacts: Callable[..., Artefacts],
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch], str],
) -> None:
    _builder()
    first = artefacts(export=ENGINES)
    first.exported  # noqa: B018
    folder = first.context.run.path("engines")
    before = _bytes(folder)
    assert [name for name in before if name.endswith(".engine")]
    second = artefacts(export=ENGINES, distill={"steps": 5})
    with monkeypatch.context() as patch, pytest.raises(PassError, match=fault(patch)) as caught:
        second.exported  # noqa: B018
    logs = [*folder.glob("*.failed.log")]  # beside the engines, not in what is thrown away
    assert len(logs) == (fault is _break_the_builder)
    assert all(str(caught.value).endswith(f"the whole log: {log}") for log in logs)
    assert all(log.read_text().strip() for log in logs)
    kept = {log.name for log in logs}
    assert {name: data for name, data in _bytes(folder).items() if name not in kept} == before
    assert not [p for p in folder.parent.iterdir() if "unchecked" in p.name]
    third = artefacts(export=ENGINES, distill={"steps": 5})
    third.exported  # noqa: B018
    assert _bytes(folder).keys() != before.keys()
    assert not [*folder.glob("*.failed.log")]


def test_a_finished_engine_is_used_where_nothing_can_build_it(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `nas evaluate` on another machine; only other compute capabilities ask the builder."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests.backends.tensorrt_stand_in import StandIn

    def again(here: int | None, module: StandIn | None, **export: Any) -> RunDirectory:
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr("nas.backends._gpu.local_sm", lambda: here)
        view = artefacts(export={"formats": ["tensorrt"], "greedy_tokens": 2, **export})
        preflight(view.context, ["export"])
        view.exported  # noqa: B018
        return view.context.run

    built = StandIn("11.4.0.106")
    assert "export" in again(89, built).tally.done
    for here, module in ((None, None), (None, built), (120, built)):
        assert "export" not in again(here, module).tally.done
        assert "export" not in again(here, module, sm=[89]).tally.done
    with pytest.raises(CapabilityError, match=r"pip install -e '\.\[tensorrt\]'"):
        again(None, None, sm=[120])
    with pytest.raises(CapabilityError, match="builds no engine for SM90 here; it builds for 120"):
        again(120, built, sm=[90])
    run = again(120, built, sm=[120])
    assert run.tally.done["export"] == 1
    assert "-sm120-" in run.require("export/tensorrt-student").data["engine"]


@pytest.mark.parametrize(
    ("installed", "message"),
    [(True, "builds no engine for SM90; it builds for 75"), (False, r"-e '\.\[rtx\]'")],
)
def test_an_engine_that_cannot_be_built_is_refused_before_any_pass(
    small_config: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: bool,
    message: str,
) -> None:
    if installed:
        _builder()
    else:
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    run = RunDirectory.create(tmp_path / "run")
    config = small_config(export={**ENGINES, "sm": [89, 90]})
    with pytest.raises(CapabilityError, match=message):
        compile_run(config, run)
    assert not run.path("units").exists()


def test_a_missing_provider_is_found_before_any_pass_and_leaves_earlier_files(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    ort = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    onnx = {"formats": ["onnx"], "greedy_tokens": 2}
    first = artefacts(export=onnx)
    first.exported  # noqa: B018
    folder = first.context.run.path("onnx")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    listed = json.loads((folder / "student" / "providers.json").read_text())
    assert listed.keys() == PROVIDERS.keys()
    second = artefacts(
        export=onnx,
        target={"provider": "cuda", "meter": "onnxruntime"},
        distill={"steps": 5},
    )
    with pytest.raises(CapabilityError, match="has no CUDAExecutionProvider here"):
        preflight(second.context, ["measure", "export"])
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_runtime_that_nobody_asked_for_and_does_not_load_fails_no_export(
    artefacts: Callable[..., Artefacts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    package = tmp_path / "broken" / "onnxruntime_genai"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('libgomp.so.1: no such file')\n")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.delitem(sys.modules, "onnxruntime_genai", raising=False)
    view = artefacts(export={"formats": ["onnx"], "greedy_tokens": 2})
    said: list[str] = []
    monkeypatch.setattr(view.context.progress, "say", said.append)
    view.exported  # noqa: B018
    gates = view.context.run.require("export/onnx-student").data["gates"]
    assert [gate["name"] for gate in gates] == ["logits", "greedy"]
    assert any("not run by onnxruntime-genai" in line and "libgomp" in line for line in said)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_teacher_in_half_precision_goes_the_whole_way(
    artefacts: Callable[..., Artefacts], dtype: str
) -> None:
    view = artefacts(teacher={"dtype": dtype})
    assert report(view).exists()
    quality = view.quality["after"]
    assert 0 <= quality["student"].kl_nats < 20
    assert quality["teacher"].kl_nats == pytest.approx(0, abs=1e-5)
