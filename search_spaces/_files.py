"""The YAML files of both kinds of space: of blocks, and of whole students (they name a builder)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

from nas._documents import load_yaml
from nas.errors import ConfigError

Kind = Literal["blocks", "students"]
_FOLDER = Path(__file__).parent
_TAG = "builder"


def names(kind: Kind) -> list[str]:
    """Names of the spaces of this kind that come with nas."""
    files = sorted(_FOLDER.glob("*.yaml"))
    return [path.stem for path in files if _kind(_content(path)) == kind]


def read(name: str, kind: Kind) -> tuple[Path, dict[str, Any]]:
    """The file of a space, by name or path, and what it says; raises ConfigError."""
    path = _FOLDER / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
    if not path.is_file():
        known = names(kind)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise ConfigError(f"space: no such search space or file: {name}; {hint}")
    content = _content(path)
    if _kind(content) != kind:
        wanted = "nas search" if kind == "blocks" else "nas run"
        raise ConfigError(
            f"space: {name} is a space of {_kind(content)}, which {wanted} takes; "
            f"spaces of {kind}: {', '.join(names(kind))}"
        )
    return path, content


def kind_of(name: str) -> Kind:
    """Which kind of space `name` is; `blocks` where there is no such file."""
    path = _FOLDER / f"{name}.yaml"
    path = path if path.exists() else Path(name)
    return _kind(_content(path)) if path.is_file() else "blocks"


def _kind(content: dict[str, Any]) -> Kind:
    return "students" if _TAG in content else "blocks"


def _content(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a search space: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a search space: it has no keys")
    return content
