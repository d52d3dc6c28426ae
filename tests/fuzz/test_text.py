"""Text formats under byte-level and value-level mutation: a NasError or a right result."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.config import load_config
from nas.errors import ArtifactError, ConfigError, NasError
from nas.libraries import Sweep, read_library
from nas.libraries._query import Limit
from nas.run import RunDirectory
from tests.fuzz.limits import bounded
from tests.fuzz.mutate import HOSTILE, mutated, replaced
from tests.fuzz.targets import Target, text_targets

BYTE_MUTATIONS = 60
VALUE_MUTATIONS = 120
_NAMES = (
    *("config", "space", "profile", "puzzle", "problem", "library csv", "costs", "cost rows"),
    *("cost csv", "choices", "cloze", "item", "jsonl", "document", "text", "record", "events"),
    *("run", "summary", "trace", "layer times", "layer info", "teacher", "plan"),
)
_TREES = tuple(n for n in _NAMES if n not in ("library csv", "cost csv", "choices", "cloze"))
_TREES = tuple(n for n in _TREES if n not in ("jsonl", "text", "events"))


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    found = {t.name: t for t in text_targets(tmp_path_factory.mktemp("whole"))}
    assert found.keys() == set(_NAMES)
    return found


def _try(target: Target, content: bytes, folder: Path) -> None:
    path = folder / target.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with bounded(), contextlib.suppress(NasError):
        target.read(folder)


@pytest.mark.parametrize("name", _NAMES)
def test_the_whole_file_is_read(name: str, targets: dict[str, Target], tmp_path: Path) -> None:
    target = targets[name]
    path = tmp_path / target.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(target.content)
    target.read(tmp_path)


@pytest.mark.parametrize("number", range(BYTE_MUTATIONS))
@pytest.mark.parametrize("name", _NAMES)
def test_mutated_bytes(name: str, number: int, targets: dict[str, Target], tmp_path: Path) -> None:
    target = targets[name]
    _try(target, mutated(target.content, number), tmp_path)


@pytest.mark.parametrize("name", _TREES)
def test_hostile_values(
    name: str, targets: dict[str, Target], tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = targets[name]

    @settings(
        max_examples=VALUE_MUTATIONS,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(where=st.integers(0, 400), value=st.sampled_from(HOSTILE))
    def try_one(where: int, value: object) -> None:
        tree = replaced(target.tree, where, value)
        _try(target, target.written(tree), tmp_path_factory.mktemp("value"))

    try_one()


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    words=st.text(st.sampled_from("a.=:0123456789-+e_ nif\0\u0663\u00b2"), max_size=30)
    | st.sampled_from(("a=1:2:" + "9" * 5000, "a=0:1e400:3", "a=" + "9" * 5000, "a=nan:inf:2"))
)
def test_limits_and_sweeps_of_the_command_line(words: str) -> None:
    with bounded(), contextlib.suppress(NasError):
        assert math.isfinite(Limit.parse(words, "max").value)
    with bounded(), contextlib.suppress(NasError):
        assert all(map(math.isfinite, Sweep.parse(words).values))


def test_aliases_that_expand_without_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path = tmp_path / "c.yaml"
    path.write_text("\n".join(lines))
    with bounded(), pytest.raises(ConfigError, match="aliases expand"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "nested too deeply"),
        ("name: a\nname: b", "'name' stands there twice"),
        ("budgets: {params_m: 1, params_m: 2}", "'params_m' stands there twice"),
        ("seed: 0x" + "f" * 5000, "more than 64 bits"),
        ("a: 2001-99-99", "not valid YAML"),
        ("# " + "x" * 2**18, "characters"),
        ("a: !!python/object/apply:os.system [id]", "not valid YAML"),
    ],
)
def test_yaml_that_only_seems_right(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with bounded(), pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_long_torn_string_is_found_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "lib.json"
    path.write_text('{"a": "' + '\\"' * 200_000 + "\\x")
    with bounded(), pytest.raises(ArtifactError, match="torn or no JSON"):
        read_library(path)


def test_a_record_that_was_altered_is_named_and_not_believed(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    run.store("solve/a", "k", data={"loss": 0.25})
    path = run.path("units", "solve", "a.json")
    path.write_text(path.read_text().replace("0.25", "0.26"))
    assert run.fetch("solve/a", "k") is None
    assert [*run.events()][-1]["event"] == "damaged"


def test_a_record_cannot_name_files_outside_the_run(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    (tmp_path / "a").write_bytes(b"")
    digest = hashlib.sha256(b"").hexdigest()
    record = {"name": "x", "key": "k", "files": {"../a": digest}, "data": None, "seconds": 0}
    run.path("units").mkdir()
    run.path("units", "x.json").write_text(json.dumps(record))
    assert run.fetch("x", "k") is None
