"""JSON lines."""

from __future__ import annotations

from collections.abc import Iterator

from nas._documents import load_json
from nas.config import JsonlText
from nas.data._base import TextSource
from nas.data._file import read_text
from nas.errors import ConfigError


class JsonlSource(TextSource):
    """One JSON object a line, the document in `field`. Blank lines and empty texts are passed."""

    def __init__(self, config: JsonlText) -> None:
        self.path = config.path
        self.field = config.field

    @property
    def name(self) -> str:
        return f"{self.path}:{self.field}"

    def documents(self) -> Iterator[str]:
        # not splitlines(): a JSON string may hold other line separators unescaped
        for number, line in enumerate(read_text(self.path).split("\n"), start=1):
            if line.strip():
                text = self._field(line, f"data.sources: {self.path}: line {number}")
                if text.strip():
                    yield text

    def _field(self, line: str, where: str) -> str:
        try:
            record = load_json(line)
        except ValueError as error:
            raise ConfigError(f"{where}: not JSON: {error}; correct or remove the line") from error
        if not isinstance(record, dict) or self.field not in record:
            keys = ", ".join(map(str, record)) if isinstance(record, dict) else "none"
            raise ConfigError(
                f"{where}: no field {self.field!r} (found: {keys}); set data.sources.field"
            )
        text = record[self.field]
        if not isinstance(text, str):
            raise ConfigError(
                f"{where}: {self.field!r} is {type(text).__name__}, not text; "
                f"set data.sources.field to a field of text"
            )
        if not _encodes(text):
            raise ConfigError(
                f"{where}: {self.field!r} holds half of a surrogate pair, which no text has; "
                f"correct or remove the line"
            )
        return text


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
