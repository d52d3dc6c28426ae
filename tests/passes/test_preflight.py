"""Mistakes in text, tasks and names are found before any work is done."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

import nas.data._load as load
from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import CapabilityError, ConfigError, NasError
from nas.passes import PassContext
from nas.passes.preflight import preflight
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


@pytest.mark.parametrize("sampled", [0, 240])
def test_a_batch_of_more_windows_than_there_are_is_refused_before_anything_is_measured(
    small_config: Config, tmp_path: Path, sampled: int
) -> None:
    """2400 tokens in windows of 24, and those that the teacher will write."""
    sources: list[dict[str, Any]] = [{"kind": "python_docs"}]
    if sampled:
        sources.append({"kind": "teacher_samples", "tokens": sampled, "prompt_tokens": 4})
    windows, data = (2400 + sampled) // 24, {"sources": sources}
    large = {"batch_tokens": 24 * (windows + 1)}
    error, run = _refused(small_config(data=data, distill=large), tmp_path / "run")
    assert isinstance(error, ConfigError)
    assert f"needs {windows + 1} windows a step, the training text has {windows}" in str(error)
    assert run.record("measure/costs") is None
    # What there is will do, as it does where nothing is distilled.
    for distill in ({"batch_tokens": 24 * windows}, {**large, "steps": 0}):
        context = PassContext(small_config(data=data, distill=distill), run)
        preflight(context, ["distill"])
        if distill.get("steps") != 0:
            assert len(context.text.train) == windows
    context.text  # noqa: B018 - finished text is not read again
    with pytest.raises(ConfigError, match="windows a step"):
        preflight(PassContext(small_config(data=data, distill=large), run), ["distill"])


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


_PLAIN = {"attention": {"linear": False}, "ffn": {"linear": False, "width_percent": [50]}}


def _space(folder: Path, **sections: dict[str, Any]) -> str:
    """A space of blocks that the DeciLM layout has words for, but for `sections`."""
    content = {name: {**given, **sections.get(name, {})} for name, given in _PLAIN.items()}
    path = folder / "space.yaml"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    ("sections", "blocks", "change"),
    [
        ({"attention": {"linear": True}}, "linear maps with an offset", "attention.linear: false"),
        ({"ffn": {"linear": True}}, "linear maps with an offset", "ffn.linear: false"),
        (
            {"attention": {"query_heads_percent": [50]}},
            "attention with fewer query heads",
            "attention.query_heads_percent: []",
        ),
        (
            {"attention": {"groups_percent": [50], "precision": "int8"}, "ffn": {"linear": True}},
            "attention with fewer query heads and linear maps with an offset",
            "attention.groups_percent: [], ffn.linear: false",
        ),
    ],
)
def test_blocks_that_a_layout_cannot_express_are_refused_in_the_space(
    small_config: Config, tmp_path: Path, sections: dict[str, Any], blocks: str, change: str
) -> None:
    space = _space(tmp_path, **sections)
    config = small_config(space=space, export={"formats": ["decilm"]})
    error, run = _refused(config, tmp_path / "run")
    assert isinstance(error, ConfigError)
    assert f"decilm cannot express {blocks}, which the space {space} has; set {change} in" in str(
        error
    )
    assert not run.path("units").exists()


@pytest.mark.parametrize("shipped", [False, True])
def test_a_layout_takes_a_space_that_it_can_express(
    small_config: Config, tmp_path: Path, shipped: bool
) -> None:
    space = "decoder-served" if shipped else _space(tmp_path)
    config = small_config(space=space, export={"formats": ["decilm", "gguf"]})
    run = RunDirectory.create(tmp_path / "run")
    preflight(PassContext(config, run), ["measure"])


@pytest.mark.parametrize("missing", ["gguf", "llama_cpp"])
def test_a_package_that_a_gguf_file_needs_is_asked_for_before_any_pass(
    small_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setitem(sys.modules, missing, None)
    config = small_config(space=_space(tmp_path), export={"formats": ["gguf"]})
    error, run = _refused(config, tmp_path / "run")
    assert isinstance(error, CapabilityError)
    assert {"gguf": "'.[gguf]'", "llama_cpp": "pip install llama-cpp-python"}[missing] in str(error)
    assert not run.path("units").exists()


def test_a_tokenizer_that_llama_cpp_does_not_read_is_refused_before_any_pass(
    small_config: Config, tmp_path: Path, tiny_folder: Callable[[str], Path]
) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "teacher")
    backend = Tokenizer(Unigram([("<s>", 0.0), *((chr(i), -1.0) for i in range(32, 127))]))
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>").save_pretrained(folder)
    teacher, export = {"source": str(folder)}, {"formats": ["gguf"]}
    config = small_config(teacher=teacher, space=_space(tmp_path), export=export)
    error, run = _refused(config, tmp_path / "run")
    assert isinstance(error, CapabilityError)
    assert "gguf takes byte-level BPE tokenizers, this is Unigram" in str(error)
    assert not run.path("units").exists()
