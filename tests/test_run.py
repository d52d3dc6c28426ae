"""The run directory: keys, atomicity, damage, locks."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from nas.errors import ArtifactError, PassError
from nas.run import RunDirectory, content_key, json_writer


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


def _store(run: RunDirectory, value: int = 1, key: str = "k") -> None:
    run.store("build/a", key, {"library/a.json": json_writer({"value": value})}, {"v": value})


def test_a_stored_unit_is_fetched_with_its_data(run: RunDirectory) -> None:
    _store(run)
    record = run.fetch("build/a", "k")
    assert record is not None
    assert record.data == {"v": 1}
    assert run.tally.done == {"build": 1}
    assert run.tally.reused == {"build": 1}


def test_what_can_be_done_without_is_not_refused(run: RunDirectory) -> None:
    _store(run)
    run.closed = frozenset({"build"})
    assert run.intact("build/a", "k") is not None
    assert run.intact("build/a", "other") is run.intact("build/b", "k") is None
    run.path("library", "a.json").unlink()
    assert run.intact("build/a", "k") is None
    assert run.tally.reused == {}
    with pytest.raises(ArtifactError, match="run from the pass build"):
        run.fetch("build/a", "k")


def test_another_key_is_not_done(run: RunDirectory) -> None:
    _store(run)
    assert run.fetch("build/a", "other") is None


def test_keys_depend_on_every_part_and_not_on_the_order_of_a_mapping() -> None:
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert content_key("x", 1) != content_key("x", 2)
    assert content_key("x", 1) != content_key("x1")


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_a_damaged_file_is_named_and_counts_as_not_done(run: RunDirectory, damage: str) -> None:
    _store(run)
    path = run.path("library", "a.json")
    if damage == "altered":
        path.write_text(path.read_text().replace("1", "2"))
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:3])
    else:
        path.unlink()
    assert run.fetch("build/a", "k") is None
    assert {"event": "damaged", "file": "library/a.json"}.items() <= [*run.events()][-1].items()


def test_a_torn_record_counts_as_not_done(run: RunDirectory) -> None:
    _store(run)
    run.path("units", "build", "a.json").write_text('{"name": "build/a"')
    assert run.fetch("build/a", "k") is None


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(run: RunDirectory) -> None:
    _store(run)

    def full_disk(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(PassError, match="No space left on device"):
        run.store("build/a", "k2", {"library/a.json": full_disk})
    assert json.loads(run.path("library", "a.json").read_text()) == {"value": 1}
    assert run.fetch("build/a", "k") is not None
    assert [p.name for p in run.path("library").iterdir()] == ["a.json"]


def test_units_of_a_closed_pass_are_read_but_not_made(run: RunDirectory) -> None:
    _store(run)
    run.closed = frozenset({"build"})
    assert run.fetch("build/a", "k") is not None
    with pytest.raises(ArtifactError, match="run from the pass build on"):
        run.fetch("build/a", "other")


def test_a_foreign_folder_and_a_foreign_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="not a run"):
        RunDirectory.create(tmp_path)
    other = RunDirectory.create(tmp_path / "other")
    other.path("run.json").write_text('{"format": 99}')
    with pytest.raises(ArtifactError, match="format 99"):
        RunDirectory.open(tmp_path / "other")


@pytest.mark.parametrize("marker", [None, b"", b'{"form', b"\xff", b"[]"])
def test_a_lost_or_torn_marker_is_written_anew(run: RunDirectory, marker: bytes | None) -> None:
    _store(run)
    path = run.path("run.json")
    path.unlink()
    if marker is not None:
        path.write_bytes(marker)
    with pytest.raises(ArtifactError, match=r"run\.json"):
        RunDirectory.open(run.root)
    again = RunDirectory.create(run.root)
    assert again.fetch("build/a", "k") is not None
    assert {"event": "damaged", "file": str(path)}.items() <= [*again.events()][-1].items()


def test_a_torn_run_json_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("mine")
    with pytest.raises(ArtifactError, match="not a run"):
        RunDirectory.create(tmp_path)
    assert (tmp_path / "run.json").read_text() == "mine"


def test_a_reader_who_may_not_write_is_told_all_the_same(run: RunDirectory) -> None:
    _store(run)
    run.path("units", "build", "a.json").write_text("{")
    run.path("events.jsonl").unlink()
    run.path("events.jsonl").mkdir()  # nobody writes there
    assert run.record("build/a") is None


def test_a_folder_in_the_place_of_a_record_counts_as_not_done(run: RunDirectory) -> None:
    _store(run)
    path = run.path("units", "build", "a.json")
    path.unlink()
    path.mkdir()
    assert run.fetch("build/a", "k") is None
    _store(run)
    assert run.fetch("build/a", "k") is not None


def test_a_torn_event_stays_alone(run: RunDirectory) -> None:
    run.event("first")
    with run.path("events.jsonl").open("a") as handle:
        handle.write('{"event": "to')
    run.event("second")
    assert [event["event"] for event in run.events()] == ["first", "second"]


def _try_lock(root: Path, queue: multiprocessing.Queue[str]) -> None:
    try:
        with RunDirectory.open(root).locked():
            queue.put("locked")
    except ArtifactError as error:
        queue.put(str(error))


def test_a_second_process_is_refused(run: RunDirectory) -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[str] = context.Queue()
    with run.locked():
        process = context.Process(target=_try_lock, args=(run.root, queue))
        process.start()
        assert "in use by another nas process" in queue.get(timeout=60)
        process.join()
