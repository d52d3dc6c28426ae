"""Mistakes in text, tasks and names are found before any work is done."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas.data._load as load
from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import CapabilityError, ConfigError, NasError
from nas.run import RunDirectory
from tests.harness import RecordingHarness

Config = Callable[..., RunConfig]


def _refused(config: RunConfig, root: Path, **passes: str) -> tuple[NasError, RunDirectory]:
    run = RunDirectory.create(root)
    with pytest.raises(NasError) as error:
        compile_run(config, run, **passes)
    return error.value, run


def _text(folder: Path, text: str, **rest: Any) -> dict[str, Any]:
    (folder / "text.txt").write_text(text)
    return {"data": {"sources": [{"kind": "file", "path": folder / "text.txt"}], **rest}}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"solve": {"solver": "mop"}}, "no solver 'mop'; did you mean 'mip'?"),
        ({"data": {"sources": [{"kind": "file", "path": "/no/text"}]}}, "/no/text: no such file"),
        ({"data": {"sources": []}}, "add a source of text"),
        ({"distill": {"relation_weight": 1.0}}, "relations of all tokens are an encoder's"),
        ({"data": {"sequence_length": 4096}}, "more than the 128 positions"),
        ({"evaluate": {"tasks": ["/no/task.jsonl"]}}, "/no/task.jsonl: cannot be read"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_measured(
    small_config: Config, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    error, run = _refused(small_config(**sections), tmp_path / "run")
    assert isinstance(error, ConfigError)
    assert message in str(error)
    assert not run.path("units").exists()
    assert not run.path("config.resolved.yaml").exists()


@pytest.mark.parametrize(
    ("text", "message"), [("", "the file is empty"), ("a few words", "11 tokens of text leave no")]
)
@pytest.mark.parametrize("sampled", [False, True])
def test_text_that_is_too_little_is_refused_before_anything_is_measured(
    small_config: Config, tmp_path: Path, text: str, message: str, sampled: bool
) -> None:
    sections = _text(tmp_path, text)
    if sampled:
        sections["data"]["sources"].append({"kind": "teacher_samples", "tokens": 240})
    error, run = _refused(small_config(**sections), tmp_path / "run")
    assert message in str(error)
    assert not run.path("units").exists()


def test_prompts_that_leave_nothing_to_sample_are_refused_before_anything_is_measured(
    small_config: Config, tmp_path: Path
) -> None:
    sources = [{"kind": "python_docs"}, {"kind": "teacher_samples", "prompt_tokens": 24}]
    error, run = _refused(small_config(data={"sources": sources}), tmp_path / "run")
    assert "prompt_tokens 24 leaves nothing" in str(error)
    assert not run.path("units").exists()


def test_a_task_that_the_harness_does_not_know_is_not_kept_in_the_run(
    small_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory.create(tmp_path / "run")
    compile_run(small_config(), run, stop="space")
    before = run.path("config.resolved.yaml").read_text()
    RecordingHarness(lambda *_: [], ("piqa",)).install(monkeypatch)
    error, _ = _refused(small_config(evaluate={"lm_eval": ["pica"]}), run.root)
    assert "no task 'pica'; did you mean piqa?" in str(error)
    assert run.path("config.resolved.yaml").read_text() == before


def test_what_the_passes_do_not_read_is_not_asked_for(small_config: Config, tmp_path: Path) -> None:
    sections = {
        "data": {"sources": [{"kind": "file", "path": "/no/text"}]},
        "evaluate": {"tasks": ["/no/task.jsonl"], "lm_eval": ["piqa"]},
    }
    run = RunDirectory.create(tmp_path / "run")
    compile_run(small_config(**sections), run, stop="measure")
    assert run.record("measure/costs") is not None


@pytest.mark.parametrize("sampled", [False, True])
def test_text_is_made_once(
    small_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled: bool
) -> None:
    """Sampling runs the teacher: the check must not."""
    calls: list[str] = []
    for name in ("sample_windows", "_windows"):
        real = getattr(load, name)

        def counted(*arguments: Any, name: str = name, real: Any = real) -> Any:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(load, name, counted)
    sources: list[dict[str, Any]] = [{"kind": "python_docs"}]
    if sampled:
        sources.append({"kind": "teacher_samples", "tokens": 48, "prompt_tokens": 4})
    config = small_config(data={"sources": sources})
    for _ in range(2):
        compile_run(config, RunDirectory.create(tmp_path / "run"), stop="score")
    assert calls.count("sample_windows") == sampled
    assert calls.count("_windows") == 3  # train, score, evaluate


def test_a_missing_package_is_told_before_anything_is_measured(
    small_config: Config, tmp_path: Path
) -> None:
    if importlib.util.find_spec("lm_eval"):
        pytest.skip("lm_eval is installed")
    error, run = _refused(small_config(evaluate={"lm_eval": ["piqa"]}), tmp_path / "run")
    assert isinstance(error, CapabilityError)
    assert not run.path("units").exists()
