"""Scores on disk: a line of JSON each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import ArtifactError, ConfigError
from nas.proxies._evaluate import Score, ScoreTable
from nas.proxies._rows import read_rows

_HEADER = "conditions"
_ARCHITECTURE = "architecture"


class ScoreLog:
    """Scores by architecture and proxy, kept in `path` if one is given.

    The first line holds the conditions; a file of other conditions is refused, naming what differs.
    A torn last line, as an interrupted run leaves it, is passed over.
    """

    def __init__(self, path: Path | None, conditions: Mapping[str, Any]) -> None:
        self.table = ScoreTable()
        self._path = path
        if path is None:
            return
        wanted = json.loads(json.dumps(conditions))
        if path.exists() and path.stat().st_size:
            self._check(path, wanted)
            self.table = read_scores(path)
            if not path.read_text(encoding="utf-8").endswith("\n"):
                self._write("\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(json.dumps({_HEADER: wanted}) + "\n")

    def has(self, architecture: str, proxy: str) -> bool:
        return proxy in self.table.rows.get(architecture, {})

    def add(self, architecture: str, proxy: str, score: Score) -> None:
        score = Score(score.values, round(score.seconds, 4))
        self.table.rows.setdefault(architecture, {})[proxy] = score
        entry = {"architecture": architecture, "what": proxy}
        self._write(json.dumps(entry | {"values": score.values, "seconds": score.seconds}) + "\n")

    def _write(self, text: str) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as handle:
                handle.write(text)

    @staticmethod
    def _check(path: Path, wanted: Mapping[str, Any]) -> None:
        with path.open(encoding="utf-8") as handle:
            held = (_parsed(handle.readline()) or {}).get(_HEADER)
        if not isinstance(held, dict):
            raise ConfigError(f"{path}: not a log of proxy scores; name another file")
        differing = [name for name in {**held, **wanted} if held.get(name) != wanted.get(name)]
        if differing:
            raise ConfigError(
                f"{path}: its scores were made with another {', '.join(differing)}; "
                "name another file"
            )


def read_scores(path: Path) -> ScoreTable:
    """Scores from a log of ours or a journal of `nas search`, or from a CSV file.

    A CSV file has a column `architecture` and one a proxy; an empty cell is no score. Raises
    ArtifactError.
    """
    found = _from_csv(path) if path.suffix == ".csv" else _from_lines(path)
    if not found.rows:
        raise ArtifactError(f"{path}: there are no scores in it")
    return found


def _from_lines(path: Path) -> ScoreTable:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    found = ScoreTable()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        entry = _parsed(line)
        if entry is not None and {"architecture", "what", "values"} <= entry.keys():
            score = Score(tuple(map(float, entry["values"])), entry.get("seconds", math.nan))
            found.rows.setdefault(entry["architecture"], {})[entry["what"]] = score
    return found


def _from_csv(path: Path) -> ScoreTable:
    header, rows = read_rows(path)
    if _ARCHITECTURE not in header:
        raise ArtifactError(f"{path}: it has no column called {_ARCHITECTURE}")
    found = ScoreTable()
    for row in rows:
        given = [name for name, cell in row.cells.items() if cell and name != _ARCHITECTURE]
        scores = {name: Score((row.number(name),), math.nan) for name in given}
        found.rows[row.cells[_ARCHITECTURE]] = scores
    return found


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
