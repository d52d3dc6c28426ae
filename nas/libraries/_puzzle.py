"""The Puzzle layout: `{layer: {variant: {"stats": {...}, "metrics": {...}}}}`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nas.errors import ArtifactError
from nas.libraries._json import Node
from nas.libraries._library import BlockLibrary, Row


def from_puzzle(data: Node, path: Path) -> BlockLibrary:
    """Columns are the dotted paths below a variant, such as `stats.memory_mib`."""
    if data.repeated is not None:
        raise ArtifactError(f"{path}: slot {data.repeated} stands there twice; keep one of them")
    if not data:
        raise ArtifactError(f"{path}: the library is empty; give at least one slot")
    return BlockLibrary(path=path, rows={slot: _slot(slot, data[slot], path) for slot in data})


def _slot(slot: str, variants: Any, path: Path) -> dict[str, Row]:
    if not isinstance(variants, Node):
        raise ArtifactError(
            f"{path}: slot {slot} is no object; the layout is "
            '{layer: {variant: {"stats": {...}, "metrics": {...}}}}'
        )
    if variants.repeated is not None:
        raise ArtifactError(
            f"{path}: slot {slot}: variant {variants.repeated} stands there twice; keep one of them"
        )
    if not variants:
        raise ArtifactError(f"{path}: slot {slot} has no variant; give it one or leave it out")
    return {variant: _variant(slot, variant, row, path) for variant, row in variants.items()}


def _variant(slot: str, variant: str, row: Any, path: Path) -> Row:
    where = f"{path}: slot {slot}, variant {variant}"
    if not isinstance(row, Node):
        raise ArtifactError(f'{where} is no object; it holds "stats" and "metrics"')
    columns = dict(_flat(row, "", where))
    if not columns:
        raise ArtifactError(f"{where} is empty; complete it or leave it out")
    return columns


def _flat(node: Node, prefix: str, where: str) -> Iterator[tuple[str, object]]:
    if node.repeated is not None:
        raise ArtifactError(f"{where}: {prefix}{node.repeated} stands there twice; keep one")
    for key, value in node.items():
        if isinstance(value, Node):
            yield from _flat(value, f"{prefix}{key}.", where)
        else:
            yield prefix + key, value
