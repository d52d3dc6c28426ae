"""The header of a GGUF file: its scalar metadata and its tensor table, in a fraction of a second.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Long string arrays (the
vocabulary, which the tokenizer reads by itself) are stepped over and only counted. No count of the
file is believed before the bytes that it speaks of are known to be there.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nas._documents import brief
from nas.errors import ConfigError

_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST_LIST = 4096
"""Longer arrays of numbers are only counted, too; those of one number a layer are shorter."""
_MOST_DIMENSIONS = 4
_DEEPEST = 4


Value = TypeVar("Value")


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: shape in torch's order, GGML type number, offset in the file."""

    shape: tuple[int, ...]
    type_id: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (arrays of strings, and long ones, as their length) and tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]


def read_header(path: Path) -> GgufHeader:
    """Parse the header; raises ConfigError for a file that is not GGUF, torn or too old."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data).header()
    except (OSError, ValueError, struct.error, LookupError, OverflowError) as error:
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
        metadata = _once(self.pair() for _ in range(pairs))
        entries = _once(self.entry() for _ in range(tensors))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise ValueError(f"general.alignment is {brief(alignment)}")
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
        """A number of things that follow; each takes a byte at least."""
        count: int = self.take("Q")
        if count > len(self.data) - self.at:
            raise ValueError(f"{count:,} values are said to follow, the file ends before")
        return count

    def text(self) -> str:
        length = self.count()
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise ValueError("it ends within an array")
        self.at += size

    def pair(self) -> tuple[str, Any]:
        key = self.text()
        return key, self.value(self.take("I"))

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.take(_SCALARS[kind])
        element, count = self.take("I"), self.count()
        if element == _STRING:
            for _ in range(count):
                self.skip(self.count())
            return count
        if element in _SCALARS and count > _LONGEST_LIST:
            self.skip(count * struct.calcsize("<" + _SCALARS[element]))
            return count
        if depth == _DEEPEST:
            raise ValueError("arrays are nested too deeply")
        return [self.value(element, depth + 1) for _ in range(count)]

    def entry(self) -> tuple[str, TensorEntry]:
        name, count = self.text(), self.take("I")
        if not 0 < count <= _MOST_DIMENSIONS:
            raise ValueError(f"the tensor {brief(name)} has {count:,} dimensions")
        dimensions = [self.take("Q") for _ in range(count)]
        kind, offset = self.take("I"), self.take("Q")
        return name, TensorEntry(tuple(reversed(dimensions)), kind, offset)


def _once(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{brief(name)} stands there twice")
        found[name] = value
    return found
