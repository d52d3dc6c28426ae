"""A folder that appears complete under its name, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from nas.errors import ArtifactError, PassError

MARKERS = (
    "configuration_nas.py",
    "configuration_nas_encoder.py",
    "configuration_decilm.py",
    "nas_student.json",
)


@contextlib.contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling to fill; on success it takes the name `folder`.

    An earlier export of the same name is replaced; anything else there is refused with
    ArtifactError. Raises PassError when the disk refuses, leaving what was there before.
    """
    ours = any((folder / marker).is_file() for marker in MARKERS)
    if folder.exists() and not ours and any(folder.iterdir()):
        raise ArtifactError(f"{folder} is not empty and not an exported student; name another")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            fresh = Path(scratch) / "new"
            fresh.mkdir()
            yield fresh
            _flush(fresh)
            if folder.exists():
                os.replace(folder, Path(scratch) / "old")
            os.replace(fresh, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PassError(f"{folder} cannot be written: {reason}") from error


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
