"""What is being written has a name of its own, by which the next process knows what a killed one
left behind."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"\..+\.\d+\.tmp")


def sibling(path: Path) -> Path:
    """Where this process writes what is to be renamed to `path`: a dot, its name, the number of the
    process and .tmp."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def is_scratch(path: Path) -> bool:
    """Whether `path` was named by `sibling`."""
    return _NAME.fullmatch(path.name) is not None


def scratch_in(folder: Path) -> Iterator[Path]:
    """Everything below `folder` that was named by `sibling`."""
    yield from [path for path in folder.rglob(".*.tmp") if is_scratch(path)]


def remove(path: Path) -> None:
    """A file or a folder, where there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
