"""Mutations of bytes, and values that no one writes on purpose. All follow from a seed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(None, True, "", " ", "\0", "\x1b[31m\x07", "../../../etc/passwd", "nan", "\u202e", "1e400"),
    *(0, -1, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": {"c": {}}}}, "x" * 5000),
)
"""Values that replace one of a file."""

_TOKENS = (
    *(b"\0", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b"\r", b"\x1b[2J", b"\x7f", b'"', b"'", b"\\"),
    *(b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\t", b"- ", b"&a ", b"*a", b"!!python/none "),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"9" * 5000, b"-1", b"0x1F", b"1_000"),
    *(b"\\ud800", b"<script>", b"${HOME}", b"%n%n", b"../../"),
)
_COUNTS = tuple(struct.pack("<Q", n) for n in (0, 2**31 - 1, 2**32, 2**40, 2**63 - 1, 2**64 - 1))
_DEPTH = 100_000

Mutation = Callable[[bytes, random.Random], bytes]


def mutated(data: bytes, number: int) -> bytes:
    """Mutation `number` of `data`: one to three changes of the kinds below."""
    source = random.Random(number)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        data = source.choice(_MUTATIONS)(data, source)
    return data


def _truncated(data: bytes, source: random.Random) -> bytes:
    return data[: source.randrange(len(data) + 1)]


def _flipped(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 4, 32)) if changed else 0):
        changed[_near_the_start(data, source)] ^= 1 << source.randrange(8)
    return bytes(changed)


def _spliced(data: bytes, source: random.Random) -> bytes:
    """A token somewhere, in place of some bytes or between two."""
    at = _near_the_start(data, source)
    return data[:at] + source.choice(_TOKENS) + data[at + source.choice((0, 0, 1, 8)) :]


def _counted(data: bytes, source: random.Random) -> bytes:
    """Eight bytes that say how much follows say something else."""
    at = _near_the_start(data, source) // 4 * 4
    return data[:at] + source.choice(_COUNTS) + data[at + 8 :]


def _repeated(data: bytes, source: random.Random) -> bytes:
    """A piece stands there twice: keys, lines, tensors."""
    lines = data.splitlines(keepends=True)
    if len(lines) > 1:
        at = source.randrange(len(lines))
        return b"".join((*lines[: at + 1], lines[at], *lines[at + 1 :]))
    start = source.randrange(len(data) + 1)
    stop = min(len(data), start + source.choice((1, 16, 256)))
    return data[:stop] + data[start:]


def _removed(data: bytes, source: random.Random) -> bytes:
    start = source.randrange(len(data) + 1)
    return data[:start] + data[start + source.choice((1, 8, 64)) :]


def _renumbered(data: bytes, source: random.Random) -> bytes:
    """A run of digits becomes another number."""
    places = [i for i, byte in enumerate(data[:4096]) if chr(byte).isdigit()]
    if not places:
        return data
    start = source.choice(places)
    stop = start
    while stop < len(data) and chr(data[stop]).isdigit():
        stop += 1
    value = source.choice((b"0", b"-1", b"1e400", b"NaN", b"null", b"1" + b"0" * 18, b"9" * 600))
    return data[:start] + value + data[stop:]


def _nested(data: bytes, source: random.Random) -> bytes:
    """Deeper than any recursion goes."""
    token = source.choice((b"[", b'{"a":', b"[[", b"- "))
    at = source.choice((0, _near_the_start(data, source)))
    return data[:at] + token * _DEPTH + data[at:]


def _near_the_start(data: bytes, source: random.Random) -> int:
    """Where headers are, half of the time."""
    if not data:
        return 0
    return source.randrange(min(len(data), source.choice((64, 512, len(data)))))


_MUTATIONS: tuple[Mutation, ...] = (
    *(_truncated, _flipped, _flipped, _spliced, _spliced, _counted, _repeated, _removed),
    *(_renumbered, _renumbered, _nested),
)


def replaced(tree: Any, where: int, value: Any) -> Any:
    """A copy of JSON-like `tree` with its node number `where` (modulo their count) replaced."""
    paths = list(_paths(tree, ()))
    path = paths[where % len(paths)]
    if not path:
        return value
    copied = json.loads(json.dumps(tree))
    node = copied
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return copied


def _paths(tree: Any, path: tuple[Any, ...]) -> Any:
    yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _paths(value, (*path, key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from _paths(value, (*path, i))
