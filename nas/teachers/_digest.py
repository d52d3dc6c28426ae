"""SHA-256 over files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest_files(paths: Iterable[Path]) -> str:
    """Hex SHA-256 over names and bytes of `paths`, independent of their folder."""
    parts = sorted((path.name.encode(), _digest(path)) for path in paths)
    total = hashlib.sha256()
    for name, digest in parts:
        total.update(name + b"\0" + digest)
    return total.hexdigest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
