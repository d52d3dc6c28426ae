"""SHA-256 over files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest_files(paths: Iterable[Path]) -> str:
    """Hex SHA-256 over names and bytes of `paths`, independent of their folder."""
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        with path.open("rb") as file:
            part = hashlib.file_digest(file, "sha256")
        total.update(path.name.encode() + b"\0" + part.digest())
    return total.hexdigest()
