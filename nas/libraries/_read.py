"""From a file to a library, whichever of the known layouts it has."""

from __future__ import annotations

from pathlib import Path

from nas.errors import ArtifactError, ConfigError
from nas.libraries._csv import from_csv
from nas.libraries._json import Node, parse_json
from nas.libraries._library import BlockLibrary
from nas.libraries._problem_file import from_problem, is_problem
from nas.libraries._puzzle import from_puzzle


def read_library(path: Path) -> BlockLibrary:
    """Read the Puzzle layout, its CSV form, or the problem of a run; told apart by content.

    Raises:
        ConfigError: there is no such file.
        ArtifactError: the file is torn, empty or inconsistent; slot and variant are named.
    """
    text = _text(path)
    if not text.strip():
        raise ArtifactError(f"{path}: the file is empty; write it again")
    if path.suffix.lower() != ".json" and text.lstrip()[0] not in "{[":
        return from_csv(text, path)
    data = parse_json(text, path)
    if not isinstance(data, Node):
        raise ArtifactError(
            f"{path}: holds no object; known layouts are "
            '{layer: {variant: {"stats": {...}, "metrics": {...}}}} and the problem.json of a run'
        )
    return from_problem(data, path) if is_problem(data) else from_puzzle(data, path)


def _text(path: Path) -> str:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise ConfigError(f"--library {path}: {what}; give a JSON or CSV file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArtifactError(
            f"{path}: byte {error.start} is no UTF-8; give a JSON or CSV file"
        ) from error
