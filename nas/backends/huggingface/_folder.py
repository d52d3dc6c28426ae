"""A folder that appears complete under its name, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from nas._scratch import remove, sibling
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
    scratch = sibling(folder)
    fresh = scratch / "new"
    try:
        fresh.mkdir(parents=True)
        yield fresh
        _flush(fresh)
        if folder.exists():
            os.replace(folder, scratch / "old")
        os.replace(fresh, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PassError(f"{folder} cannot be written: {reason}") from error
    finally:
        remove(scratch)


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
