"""Weights whose network is told by the names of its tensors: a single file, or timm's folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas._documents import load_json
from nas.errors import ConfigError


def stored_sizes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a safetensors file; raises ConfigError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: torn, or no safetensors file ({error}); fetch it again"
        ) from error


def plain_description(folder: Path) -> dict[str, Any] | None:
    """What the config.json of a folder says that is not of transformers, such as timm's; None for
    other folders."""
    try:
        config = load_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and "model_type" not in config else None
