"""Relative paths, made absolute from the folder that they were written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas.config._run import RunConfig
from nas.config._section import Section
from nas.errors import ConfigError

Key = tuple[str, ...]
"""The parts of a dotted key of the configuration."""
FolderOf = Callable[[Key], Path]
"""The folder at which a relative path under a key starts."""


def anchored(config: RunConfig, folder_of: FolderOf) -> RunConfig:
    """A copy in which no path hangs on the current folder; raises ConfigError."""
    return _anchor_names(_anchor_paths(config, folder_of), folder_of)


def _anchor_names(config: RunConfig, folder_of: FolderOf) -> RunConfig:
    """Names that may also be paths are paths where such a file or folder exists."""

    def anchor(name: str, *key: str) -> str:
        near = folder_of(key) / name
        try:
            return str(near.resolve()) if near.exists() else name
        except (OSError, ValueError, RuntimeError) as error:
            raise _no_path(key, error) from error

    teacher, target = config.teacher, config.target
    named = {"source": anchor(teacher.source, "teacher", "source")}
    if teacher.tokenizer is not None:
        named["tokenizer"] = anchor(teacher.tokenizer, "teacher", "tokenizer")
    hardware = anchor(target.hardware, "target", "hardware")
    return config.model_copy(
        update={
            "teacher": teacher.model_copy(update=named),
            "target": target.model_copy(update={"hardware": hardware}),
            "space": anchor(config.space, "space"),
        }
    )


def _anchor_paths(config: RunConfig, folder_of: FolderOf) -> RunConfig:
    def anchor(value: Any, key: Key) -> Any:
        if isinstance(value, Path):
            try:
                return value if value.is_absolute() else (folder_of(key) / value).resolve()
            except (OSError, ValueError, RuntimeError) as error:
                raise _no_path(key, error) from error
        if isinstance(value, Section):
            fields = type(value).model_fields
            return value.model_copy(
                update={name: anchor(getattr(value, name), (*key, name)) for name in fields}
            )
        if isinstance(value, tuple):
            return tuple(anchor(item, key) for item in value)
        if isinstance(value, dict):
            return {name: anchor(item, (*key, name)) for name, item in value.items()}
        return value

    found: RunConfig = anchor(config, ())
    return found


def _no_path(key: Key, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"{'.'.join(key)}: not a path that can be looked up ({reason}); correct it")
