"""The run directory: units with content keys, atomic writes, events, resume.

A unit is one piece of finished work (a trained block, a slot's scores, an export). Its record,
`units/<name>.json`, is written last and holds the key of its inputs and a hash of each file. A unit
is done when its key matches and its files are as they were written; anything else is redone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pydantic import BaseModel
from safetensors import SafetensorError

from nas._documents import load_json
from nas._scratch import is_scratch, remove, scratch_in, sibling
from nas.errors import ArtifactError, PassError

FORMAT_VERSION = 1


Writer = Callable[[Path], None]


def content_key(*parts: Any) -> str:
    """Key of a unit: 24 hexadecimal digits over the canonical JSON of its inputs."""
    text = json.dumps([FORMAT_VERSION, *parts], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write to a temporary name, fsync, rename: readers see the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    install(path, lambda temporary: _write_bytes(temporary, data))


@dataclass
class UnitRecord:
    """What `units/<name>.json` says of a finished unit. `data` is the unit's own small JSON.

    `seal` is a hash over all the rest; records of earlier versions have none.
    """

    name: str
    key: str
    files: dict[str, str]
    data: Any = None
    seconds: float = 0.0
    seal: str = ""


@dataclass
class Tally:
    """Units done and reused since the run was opened, for the final line and the report."""

    done: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)


class RunDirectory:
    """One run on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tally = Tally()
        self.closed: frozenset[str] = frozenset()
        """Passes whose units may be read but not made."""

    @classmethod
    def create(cls, root: Path) -> RunDirectory:
        """Open `root`, made if absent; a folder that holds something else is refused. A run whose
        run.json is lost or torn gets a new one: each unit says for itself what it is."""
        run, marker = cls(root), root / "run.json"
        used = root.exists() and not all(map(is_scratch, root.iterdir()))
        lost = _marked(marker) is None
        if used and lost and not run.path("units").is_dir():
            raise ArtifactError(f"{root} is not empty and not a run; name another --output folder")
        with _writing(root):
            root.mkdir(parents=True, exist_ok=True)
        if lost:
            write_atomically(marker, json.dumps({"format": FORMAT_VERSION, "created": time.time()}))
            if used:
                run.event("damaged", unit="run", file=str(marker), error="lost or torn")
        return cls.open(root)

    @classmethod
    def open(cls, root: Path) -> RunDirectory:
        """Open an existing run."""
        marker = root / "run.json"
        if not marker.exists():
            raise ArtifactError(f"{root} is not a run (it has no run.json)")
        version = _marked(marker)
        if version is None:
            raise ArtifactError(
                f"{marker} is torn; `nas run CONFIG --output {root}` writes it anew and keeps what "
                "is finished"
            )
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{root} has format {version}, this nas reads format {FORMAT_VERSION}; "
                "start a new run directory"
            )
        return cls(root)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run alone; a second process is refused at once."""
        with _writing(self.root):
            handle = (self.root / "run.lock").open("w")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArtifactError(f"{self.root} is in use by another nas process") from None
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what a killed process was writing; nobody else writes under the lock."""
        for path in scratch_in(self.root):
            remove(path)

    def scratch(self, name: str) -> Path:
        """A folder for files in between. Not made yet; swept away if its process is killed."""
        return sibling(self.root / name)

    def path(self, *parts: str) -> Path:
        return self.root.joinpath(*parts)

    def event(self, kind: str, **fields: Any) -> None:
        """Append a line to events.jsonl."""
        line = json.dumps({"time": time.time(), "event": kind, **fields}, default=_plain)
        path = self.path("events.jsonl")
        with _writing(path), path.open("a+b") as handle:
            handle.seek(0, os.SEEK_END)
            if handle.tell() and _last_byte(handle) != b"\n":
                line = "\n" + line  # a torn line stays alone
            handle.write(f"{line}\n".encode())

    def events(self) -> Iterator[dict[str, Any]]:
        """The events so far; a torn line is left out."""
        path = self.path("events.jsonl")
        for line in path.read_bytes().split(b"\n") if path.exists() else []:
            with contextlib.suppress(ValueError):
                event = load_json(line.decode())
                if isinstance(event, dict) and isinstance(event.get("event"), str):
                    yield event

    def fetch(self, name: str, key: str) -> UnitRecord | None:
        """The record of a unit that is done with this key, else None. One of a closed pass has to
        be done, or ArtifactError says from which pass on to run."""
        record = self.intact(name, key)
        if record is None:
            self._refuse_closed(name)
            return None
        self._count(self.tally.reused, name)
        return record

    def intact(self, name: str, key: str) -> UnitRecord | None:
        """As `fetch`, for what can be done without: nothing is refused or counted.

        A file that is missing or altered is named in the events, and the unit counts as not done.
        """
        record = self.record(name)
        if record is None or record.key != key:
            return None
        damaged = [file for file, digest in record.files.items() if not self._holds(file, digest)]
        for file in damaged:
            self._say_damaged(unit=name, file=file)
        return None if damaged else record

    def _holds(self, file: str, digest: str) -> bool:
        path = self.path(file)
        return path.is_file() and file_digest(path) == digest

    def _refuse_closed(self, name: str) -> None:
        pass_name = name.split("/")[0]
        if pass_name in self.closed:
            raise ArtifactError(
                f"{self.root}: {name} is missing or out of date; run from the pass {pass_name} on"
            )

    def record(self, name: str) -> UnitRecord | None:
        """The record of a unit as it stands, unchecked; None if absent or torn."""
        try:
            text = self._record_path(name).read_text(encoding="utf-8")
            return _unsealed(load_json(text), name)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, IsADirectoryError, NotADirectoryError) as error:
            self._say_damaged(unit=name, file=str(self._record_path(name)), error=str(error))
            return None
        except OSError as error:
            path = self._record_path(name)
            raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error

    def _say_damaged(self, **fields: str) -> None:
        """In the events, where this process may write: those who only read may not."""
        with contextlib.suppress(PassError):
            self.event("damaged", **fields)

    def require(self, name: str) -> UnitRecord:
        """The record of a unit that an earlier pass must have written."""
        record = self.record(name)
        if record is None:
            pass_name = name.split("/")[0]
            raise ArtifactError(f"{self.root} has no {name} yet; run the pass {pass_name} first")
        return record

    def store(
        self,
        name: str,
        key: str,
        files: Mapping[str, Writer] | None = None,
        data: Any = None,
        seconds: float = 0.0,
    ) -> UnitRecord:
        """Write the files of a unit, then its record. `files`: path under the run -> writer."""
        digests: dict[str, str] = {}
        for relative, writer in (files or {}).items():
            path = self.path(relative)
            install(path, writer)
            digests.update(self._digests(path))
        return self._record(UnitRecord(name, key, digests, data, seconds))

    def adopt(
        self, name: str, key: str, paths: list[str], data: Any = None, seconds: float = 0.0
    ) -> UnitRecord:
        """Record files that a back end has put in place itself, by its own atomic rename."""
        digests: dict[str, str] = {}
        for relative in paths:
            digests.update(self._digests(self.path(relative)))
        return self._record(UnitRecord(name, key, digests, data, seconds))

    def _record(self, record: UnitRecord) -> UnitRecord:
        write_atomically(self._record_path(record.name), _sealed(record))
        self._count(self.tally.done, record.name)
        self.event("unit", unit=record.name, key=record.key, seconds=round(record.seconds, 3))
        return record

    def _digests(self, path: Path) -> dict[str, str]:
        paths = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        return {str(p.relative_to(self.root)): file_digest(p) for p in sorted(paths)}

    def _record_path(self, name: str) -> Path:
        return self.path("units", *name.split("/")[:-1], name.split("/")[-1] + ".json")

    @staticmethod
    def _count(counts: dict[str, int], name: str) -> None:
        pass_name = name.split("/")[0]
        counts[pass_name] = counts.get(pass_name, 0) + 1


def json_writer(value: BaseModel | Mapping[str, Any] | list[Any]) -> Writer:
    """A writer of indented JSON."""
    if isinstance(value, BaseModel):
        text = value.model_dump_json(indent=1)
    else:
        text = json.dumps(value, indent=1, default=_plain)
    return lambda path: _write_bytes(path, (text + "\n").encode())


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def install(path: Path, writer: Writer) -> None:
    """Let `writer` fill a temporary sibling (a file or a folder), then rename it to `path`."""
    temporary = sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(temporary)
        _sync(temporary)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PassError(f"cannot write {path}: {reason}") from error
    finally:
        remove(temporary)


def _marked(marker: Path) -> Any:
    """The format that a run.json names; None where it is lost or torn."""
    try:
        return load_json(marker.read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sealed(record: UnitRecord) -> str:
    """The record as JSON, with its seal."""
    content = json.loads(json.dumps({**vars(record), "seal": ""}, default=_plain))
    return json.dumps({**content, "seal": content_key(content)})


def _unsealed(content: Any, name: str) -> UnitRecord:
    """The record that JSON holds; raises ValueError, TypeError where it is not as written."""
    record = UnitRecord(**content)
    if record.name != name:
        raise ValueError(f"it is the record of {record.name!r}")
    if record.seal and record.seal != content_key({**content, "seal": ""}):
        raise ValueError("it was altered")
    if not isinstance(record.files, dict) or not isinstance(record.seconds, (int, float)):
        raise TypeError("files is no object, or seconds no number")
    if not 0 <= record.seconds < 1e12:
        raise ValueError("seconds is no time")
    for relative, digest in record.files.items():
        parts = PurePosixPath(relative)
        if not isinstance(digest, str) or parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{relative!r} is no file of the run")
    return record


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """OSError as PassError: a full disk, a folder that may only be read."""
    try:
        yield
    except OSError as error:
        raise PassError(f"cannot write {path}: {error.strerror or error}") from error


def _last_byte(handle: BinaryIO) -> bytes:
    handle.seek(-1, os.SEEK_END)
    return handle.read(1)


def _sync(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def _write_bytes(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
