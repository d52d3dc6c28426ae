"""`nas validate`: every mistake is found before any work, with its code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Nas


def findings(nas: Nas, config: Path, *overrides: str) -> tuple[int, dict[str, dict[str, str]]]:
    options = [part for override in overrides for part in ("--set", override)]
    result = nas("validate", config, "-f", "json", *options)
    (verdict,) = json.loads(result.stdout)
    return result.exit_code, {found["what"]: found for found in verdict["findings"]}


def test_the_shape_of_a_local_teacher_is_read(
    nas: Nas, config: Path, tiny_folder: Callable[[str], Path]
) -> None:
    code, found = findings(nas, config, f"teacher.source={tiny_folder('llama')}")

    assert code == 0
    assert found["teacher"]["detail"].startswith("llama, 2 layers, hidden size")
    assert {f["state"] for f in found.values()} == {"ok"}


@pytest.mark.parametrize("source", ["someone/some-model", "package:no_such_package/x.gguf"])
def test_a_teacher_from_elsewhere_is_accepted_with_a_note(
    nas: Nas, config: Path, source: str
) -> None:
    code, found = findings(nas, config, f"teacher.source={source}")

    assert code == 0
    assert found["teacher"]["state"] == "note"


@pytest.mark.parametrize(
    ("override", "what", "message"),
    [
        ("teacher.source=./no/such/folder", "teacher", "no such file or folder"),
        ("space=decodr", "space", "did you mean decoder?"),
        ("target.hardware=rtx409", "target", "did you mean rtx4090?"),
        ("target.hardware=rtx4090", "target", "roofline or table"),
        ("target.meter=table", "target", "target.table"),
        ("solve.solver=mop", "solver", "did you mean 'mip'?"),
        ("budgets={}", "file", "give at least one"),
        ("budgets={latency_ms: {}}", "file", "give at least one"),
        ("data.sources=[{kind: file, path: absent.txt}]", "text", "absent.txt: no such file"),
        ("data.sources=[{kind: file, path: empty.txt}]", "text", "empty.txt: is empty"),
        ("evaluate.tasks=[absent.jsonl]", "text", "absent.jsonl: no such file"),
        ("budgets.params_m=0", "file", "greater than 0"),
        ("solv={}", "file", "did you mean solve?"),
    ],
)
def test_a_mistake_is_named_and_ends_with_2(
    nas: Nas, config: Path, override: str, what: str, message: str
) -> None:
    (config.parent / "empty.txt").touch()

    code, found = findings(nas, config, override)

    assert code == 2
    assert found[what]["state"] == "error"
    assert message in found[what]["detail"]


def test_an_unsupported_architecture_ends_with_4(nas: Nas, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "mamba"}')

    code, found = findings(nas, config, f"teacher.source={folder}")

    assert code == 4
    assert "mamba" in found["teacher"]["detail"]


def test_several_files_are_all_checked(nas: Nas, config: Path, tmp_path: Path) -> None:
    result = nas("validate", config, tmp_path / "absent.yaml")

    assert result.exit_code == 2
    assert str(config) in result.stdout
    assert "no such file" in result.stdout
