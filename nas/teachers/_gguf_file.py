"""The header of a GGUF file: its scalar metadata and its tensor table, in a fraction of a second.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Long string arrays (the
vocabulary, which the tokenizer reads by itself) are stepped over and only counted.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import ConfigError

_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LARGEST_COUNT = 1 << 32


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: shape in torch's order, GGML type number, offset in the file."""

    shape: tuple[int, ...]
    type_id: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (arrays of strings as their length) and tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]


def read_header(path: Path) -> GgufHeader:
    """Parse the header; raises ConfigError for a file that is not GGUF, torn or too old."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data).header()
    except (OSError, ValueError, struct.error, KeyError) as error:
        raise ConfigError(f"{path}: not a whole GGUF file ({error}); fetch it again") from error


class _Cursor:
    """Reads values one after another."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def header(self) -> GgufHeader:
        if self.data[:4] != b"GGUF":
            raise ValueError("the magic bytes are missing")
        self.at = 4
        version = self.take("I")
        if version not in (2, 3):
            raise ValueError(f"version {version} is not supported")
        tensors, pairs = self.count(), self.count()
        metadata = dict(self.pair() for _ in range(pairs))
        entries = dict(self.entry() for _ in range(tensors))
        alignment = metadata.get("general.alignment", 32)
        start = -(-self.at // alignment) * alignment
        placed = {
            name: TensorEntry(entry.shape, entry.type_id, start + entry.offset)
            for name, entry in entries.items()
        }
        return GgufHeader(metadata, placed)

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def count(self) -> int:
        count: int = self.take("Q")
        if count > _LARGEST_COUNT:
            raise ValueError(f"a count of {count} is out of range")
        return count

    def text(self) -> str:
        length = self.count()
        self.at += length
        if self.at > len(self.data):
            raise ValueError("it ends within a string")
        return self.data[self.at - length : self.at].decode("utf-8")

    def skip_text(self) -> None:
        length = self.count()
        self.at += length

    def pair(self) -> tuple[str, Any]:
        key = self.text()
        return key, self.value(self.take("I"))

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.take(_SCALARS[kind])
        element, count = self.take("I"), self.count()
        if element == _STRING:
            for _ in range(count):
                self.skip_text()
            return count
        return [self.value(element) for _ in range(count)]

    def entry(self) -> tuple[str, TensorEntry]:
        name = self.text()
        dimensions = [self.count() for _ in range(self.take("I"))]
        kind, offset = self.take("I"), self.take("Q")
        return name, TensorEntry(tuple(reversed(dimensions)), kind, offset)
