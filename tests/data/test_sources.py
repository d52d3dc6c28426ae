"""Text sources: what they give, and the one message for text that is not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nas.config import DatasetText, FileText, JsonlText
from nas.data._base import TextSource
from nas.data._datasets import DatasetSource
from nas.data._file import FileSource
from nas.data._jsonl import JsonlSource
from nas.data._python_docs import PythonDocsSource
from nas.errors import CapabilityError, ConfigError


def _file(path: Path) -> FileSource:
    return FileSource(FileText(path=path))


def _jsonl(path: Path, field: str = "text") -> JsonlSource:
    return JsonlSource(JsonlText(path=path, field=field))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[TextSource]:
    """One working source of every kind."""
    (tmp_path / "a.txt").write_text("first\n")
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\n')
    _fake_datasets(monkeypatch, [{"text": "first"}])
    return [
        _file(tmp_path / "a.txt"),
        _jsonl(tmp_path / "a.jsonl"),
        DatasetSource(DatasetText(name="some/set")),
        PythonDocsSource(seed=0),
    ]


def _fake_datasets(monkeypatch: pytest.MonkeyPatch, records: list[dict[str, Any]]) -> None:
    module = ModuleType("datasets")

    def load_dataset(name: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        if name == "absent/set":
            raise FileNotFoundError("Dataset 'absent/set' doesn't exist\nmore")
        return records

    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_every_source_keeps_the_contract(sources: list[TextSource]) -> None:
    for source in sources:
        documents = list(source.documents())
        assert documents == list(source.documents())
        assert all(text.strip() for text in documents)
        assert source.name


def test_folder_is_read_in_order_of_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in {"b.txt": "two", "a.md": "one", "sub/c.txt": "three", "d.bin": "no"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty.txt").write_text(" \n")
    assert list(_file(tmp_path).documents()) == ["one", "two", "three"]


def test_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbftext")
    assert list(_file(tmp_path / "a.txt").documents()) == ["text"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.txt: the file is empty"),
        (b" \n\t", r"a\.txt: the file is empty"),
        (b"abc\xff", r"a\.txt: not UTF-8 at byte 3.*iconv"),
    ],
)
def test_files_without_text(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        list(_file(tmp_path / "a.txt").documents())


@pytest.mark.parametrize("read", [_file, _jsonl])
def test_missing_files(read: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.txt: no such file"):
        list(read(tmp_path / "nowhere.txt").documents())


def test_folder_without_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \*\.txt or \*\.md"):
        list(_file(tmp_path).documents())


def test_jsonl_takes_one_field(tmp_path: Path) -> None:
    lines = [json.dumps({"id": 1, "body": "one\u2028still one"}, ensure_ascii=False), "", ""]
    lines += [json.dumps({"body": ""}), json.dumps({"body": "two"})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert list(_jsonl(tmp_path / "a.jsonl", "body").documents()) == ["one\u2028still one", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "x"}', r"line 3: no field 'text' \(found: body\)"),
        ("{", "line 3: not JSON"),
        ("[1]", "line 3: no field"),
        ('{"text": 4}', "line 3: 'text' is int, not text"),
    ],
)
def test_jsonl_names_the_line(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n\n{line}\n')
    with pytest.raises(ConfigError, match=message):
        list(_jsonl(tmp_path / "a.jsonl").documents())


def test_python_docs_are_shuffled_by_the_seed() -> None:
    first, again, other = (list(PythonDocsSource(seed).documents()) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)
    assert sum(map(len, first)) > 300_000


def test_datasets_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_datasets(monkeypatch, [{"text": "a"}, {"text": "  "}, {"text": "b"}])
    assert list(DatasetSource(DatasetText(name="s")).documents()) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"absent/set/train cannot be loaded: Dataset.*exist;"):
        list(DatasetSource(DatasetText(name="absent/set")).documents())
    with pytest.raises(ConfigError, match=r"record 0 has no text in 'body' \(fields: text\)"):
        list(DatasetSource(DatasetText(name="s", field="body")).documents())


def test_datasets_package_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CapabilityError, match=r"pip install -e '.\[datasets\]'"):
        list(DatasetSource(DatasetText(name="s")).documents())
