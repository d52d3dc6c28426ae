"""The configuration: merging, units, messages."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nas.config import BudgetsConfig, PhaseLimits, load_config, validate_config
from nas.errors import ConfigError

MINIMAL = {"name": "a", "teacher": {"source": "x"}, "budgets": {"speedup": 1.3}}


def _write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "name: a\nteacher: {source: x}\nbudgets: {speedup: 1.3}\nbuild: {tokens: 64, ridge: 0.1}\n",
    )
    config = load_config(path, ["build.tokens=128", "budgets.latency_ms={decode: 4}"])
    assert config.build.tokens == 128
    assert config.build.ridge == 0.1
    assert config.build.epochs == 0
    assert config.budgets.latency_ms == PhaseLimits(decode=4)


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "name: a\nteacher: {source: x}\nbudgets: {speedup: 1.3}\n"
        "data: {sources: [{kind: file, path: text/a.txt}]}\n",
    )
    (source,) = load_config(path).data.sources
    assert source.kind == "file"
    assert source.path == (tmp_path / "text" / "a.txt").resolve()


@pytest.mark.parametrize(
    "override",
    [
        "data.sources=[{kind: file, path: a.txt}]",
        "data={sources: [{kind: file, path: a.txt}]}",
    ],
)
def test_paths_of_overrides_start_where_they_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    (tmp_path / "here").mkdir()
    path = _write(
        tmp_path,
        "name: a\nteacher: {source: x}\nbudgets: {speedup: 1.3}\n"
        "data: {sources: [{kind: file, path: old.txt}], sequence_length: 64}\n"
        "evaluate: {tasks: [b.jsonl]}\n",
    )
    monkeypatch.chdir(tmp_path / "here")
    config = load_config(path, [override])
    (source,) = config.data.sources
    assert source.kind == "file"
    assert source.path == tmp_path / "here" / "a.txt"
    assert config.evaluate.tasks == (tmp_path / "b.jsonl",)
    (untouched,) = load_config(path, ["data.sequence_length=32"]).data.sources
    assert untouched.kind == "file"
    assert untouched.path == tmp_path / "old.txt"


def test_names_of_overrides_are_paths_where_such_a_file_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "near.yaml").touch()
    path = _write(
        tmp_path, "name: a\nteacher: {source: x}\nbudgets: {speedup: 1.3}\nspace: near.yaml\n"
    )
    monkeypatch.chdir(tmp_path / "here")
    names = ["teacher.source", "teacher.tokenizer", "target.hardware"]
    config = load_config(path, [f"{name}=near.yaml" for name in names])
    found = config.teacher.source, config.teacher.tokenizer, config.target.hardware
    assert found == (str(tmp_path / "here" / "near.yaml"),) * 3
    assert config.space == str(tmp_path / "near.yaml")
    assert load_config(path, ["space=decoder"]).space == "decoder"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": {"latncy_ms": 3}}, "budgets.latncy_ms: unknown key; did you mean latency_ms?"),
        ({"dat": {}}, "dat: unknown key; did you mean data?"),
        ({"budgets": {"speedup": 0}}, "budgets.speedup"),
        ({"budgets": {"memory_mib": 0}}, "greater than 0"),
        ({"teacher": {}}, "teacher.source: required"),
        ({"name": "../up"}, "name"),
        ({"budgets": {}}, "budgets: give at least one"),
        ({"target": {"phases": ["prefill"]}, "budgets": {"speedup": {"decode": 2}}}, "add decode"),
        (
            {"target": {"phases": ["prefill"]}, "budgets": {"throughput_tokens_per_s": 2}},
            "budgets.throughput_tokens_per_s: add decode to target.phases",
        ),
        ({"target": {"dtype": "float16"}}, "target.dtype"),
        ({"data": {"sources": 3}}, "data.sources: Input should be a valid"),
        ({"teacher": 3}, "teacher: Input should be a valid"),
        (
            {"baselines": ["uniform"]},
            "baselines[0]: Input should be 'uniform_ffn', 'uniform_ffn_within'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate_config({**MINIMAL, **change}, "c.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("c.yaml: ")


def _sources(*sources: object) -> dict[str, object]:
    return {"data": {"sources": sources}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _sources({"kind": "python_docs"}, {"kind": "file", "path": "a", "pth": "b"}),
            "data.sources[1].pth: unknown key; did you mean path?",
        ),
        (
            _sources({"kind": "teacher_samples", "temprature": 1}),
            "data.sources[0].temprature: unknown key; did you mean temperature?",
        ),
        (
            _sources({"kind": "python_docs", "path": "a"}),
            "data.sources[0].path: unknown key; known keys: kind",
        ),
        (_sources({"kind": "jsonl"}), "data.sources[0].path: required"),
        (
            _sources({"kind": "teacher_sample"}),
            "data.sources[0].kind: no kind is named 'teacher_sample'; did you mean "
            "teacher_samples?",
        ),
        (
            _sources({"path": "a"}),
            "data.sources[0].kind: required; one of file, jsonl, datasets, python_docs, "
            "teacher_samples, images",
        ),
        (
            {"budgets": {"latency_ms": {"prefil": 3}}},
            "budgets.latency_ms.prefil: unknown key; did you mean prefill?",
        ),
        (
            {"budgets": {"speedup": {"decode": 0}}},
            "budgets.speedup.decode: Input should be greater than 0 (found 0)",
        ),
        (
            {"budgets": {"speedup": 0}},
            "budgets.speedup: Input should be greater than 0 (found 0)",
        ),
        (
            {"budgets": {"speedup": "fast"}},
            "budgets.speedup: Input should be a valid number, unable to parse string as a number "
            "(found 'fast')",
        ),
    ],
)
def test_a_mistake_where_one_of_several_sections_may_stand_is_one_line_with_its_key(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        validate_config({**MINIMAL, **change}, "c.yaml")
    assert str(error.value) == f"c.yaml: {message}"


@pytest.mark.parametrize("text", ["- a list\n", "name: [torn\n", ""])
def test_what_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(_write(tmp_path, text))


@pytest.mark.parametrize("override", ["budgets.speedup", "=3", "name.first=a"])
def test_a_torn_override_is_refused(tmp_path: Path, override: str) -> None:
    path = _write(tmp_path, "name: a\nteacher: {source: x}\nbudgets: {speedup: 1.3}\n")
    with pytest.raises(ConfigError, match="--set"):
        load_config(path, [override])


def _budgets(folder: Path, budgets: str, *overrides: str) -> BudgetsConfig:
    text = f"name: a\nteacher: {{source: x}}\nbudgets: {budgets}\n"
    text += "target: {scenarios: {chat: {batch: 2}}}\n"
    return load_config(_write(folder, text), overrides).budgets


@pytest.mark.parametrize(
    ("budgets", "override", "expected"),
    [
        ("{speedup: 1.5}", "speedup.prefill=1.31", {"prefill": 1.31}),
        ("{speedup: 1.5}", "speedup.decode=2", {"prefill": 1.5, "decode": 2.0}),
        ("{speedup: 1.5}", "speedup=1.2", {"prefill": 1.2}),
        ("{speedup: {decode: 2}}", "speedup.prefill=1.2", {"prefill": 1.2, "decode": 2.0}),
        ("{memory_mib: 9, speedup: null}", "speedup.decode=2", {"decode": 2.0}),
        ("", "speedup.prefill=1.31", {"prefill": 1.31}),
    ],
)
def test_a_limit_of_a_phase_is_set_by_its_own_name(
    tmp_path: Path, budgets: str, override: str, expected: dict[str, float]
) -> None:
    found = _budgets(tmp_path, budgets, f"budgets.{override}")
    assert found.limits("speedup") == expected


def test_limits_of_a_scenario_are_set_by_phase_as_well(tmp_path: Path) -> None:
    key = "budgets.scenarios.chat.latency_ms"
    found = _budgets(tmp_path, "{scenarios: {chat: {latency_ms: 9}}}", f"{key}.decode=2")
    assert found.scenarios["chat"].limits("latency_ms") == {"prefill": 9.0, "decode": 2.0}


def test_what_a_run_stores_as_null_can_be_set(tmp_path: Path) -> None:
    stored = yaml.safe_dump(validate_config(MINIMAL, "c").model_dump(mode="json"))
    overrides = ["budgets.latency_ms.decode=9", "teacher.image.side=64"]
    config = load_config(_write(tmp_path, stored), overrides)
    assert config.budgets.limits("latency_ms") == {"decode": 9.0}
    assert config.teacher.image is not None
    assert config.teacher.image.side == 64


def test_a_missing_file_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nas init"):
        load_config(tmp_path / "absent.yaml")


def test_names_that_are_files_beside_the_configuration_are_taken_from_there(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("{}")
    path = _write(
        tmp_path,
        "name: a\nteacher: {source: x}\nbudgets: {speedup: 1.3}\nspace: space.yaml\n",
    )
    config = load_config(path)
    assert config.space == str(tmp_path / "space.yaml")
    assert config.teacher.source == "x"
