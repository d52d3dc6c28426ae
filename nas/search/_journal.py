"""What a search has found so far, a line of JSON each, so that nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import ConfigError, PassError
from nas.proxies import Score

FORMAT = 1
_HEADER = "search"
_FIELDS = {"architecture", "what", "values", "seconds"}


class Journal:
    """Scores by architecture and proxy, and measured latencies; kept in `path` if one is given.

    The first line says what the values depend on (`about`). A file of another search is refused,
    naming what differs. Limits, strategy and proxies are no part of that: a journal serves them
    all. A torn last line, as an interrupted call leaves it, is passed over.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self._path = path
        self._scores: dict[tuple[str, str], Score] = {}
        self.reused = 0
        """How many values were asked for and known."""
        if path is None:
            return
        about = json.loads(json.dumps({"format": FORMAT, **about}))
        if path.exists() and path.stat().st_size:
            self._read(path, about)
        else:
            self._append({_HEADER: about})

    def get(self, architecture: str, what: str) -> Score | None:
        """What a proxy, or a measurement, said; None if it is not known."""
        known = self._scores.get((architecture, what))
        self.reused += known is not None
        return known

    def add(self, architecture: str, what: str, score: Score) -> None:
        self._scores[architecture, what] = score
        if self._path is not None:
            self._append({"architecture": architecture, "what": what, **vars(score)})

    def _append(self, entry: Mapping[str, Any]) -> None:
        assert self._path is not None
        try:
            with self._path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise PassError(f"cannot write {self._path}: {error.strerror}") from error

    def _read(self, path: Path, about: Mapping[str, Any]) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        first, *lines = text.splitlines()
        self._check(path, _parsed(first), about)
        for line in lines:
            entry = _parsed(line)
            if entry is not None and entry.keys() >= _FIELDS:
                score = Score(tuple(entry["values"]), entry["seconds"])
                self._scores[entry["architecture"], entry["what"]] = score
        if not text.endswith("\n"):
            with path.open("a", encoding="utf-8") as handle:
                handle.write("\n")

    def _check(
        self, path: Path, header: Mapping[str, Any] | None, about: Mapping[str, Any]
    ) -> None:
        if header is None or _HEADER not in header:
            raise ConfigError(f"--journal {path}: not a journal of nas search; name another file")
        held = header[_HEADER]
        differing = [name for name in about if held.get(name) != about[name]]
        if differing:
            raise ConfigError(
                f"--journal {path}: it belongs to a search with another "
                f"{', '.join(differing)}; name another file"
            )


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
