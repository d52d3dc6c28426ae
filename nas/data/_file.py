"""Plain text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nas.config import FileText
from nas.data._base import TextSource
from nas.errors import ConfigError

_SUFFIXES = (".txt", ".md")


class FileSource(TextSource):
    """One file is one document; a folder gives its `*.txt` and `*.md` files, sorted by path."""

    def __init__(self, config: FileText) -> None:
        self.path = config.path

    @property
    def name(self) -> str:
        return str(self.path)

    def documents(self) -> Iterator[str]:
        for path in self.files():
            text = read_text(path)
            if text.strip():
                yield text
            elif path == self.path:
                raise ConfigError(f"data.sources: {path}: the file is empty; give a file with text")

    def files(self) -> list[Path]:
        """The files that are read, in order; raises ConfigError for a folder without any."""
        if not self.path.is_dir():
            return [self.path]
        files = sorted(p for p in self.path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
        if not files:
            raise ConfigError(f"data.sources: {self.path}: the folder has no *.txt or *.md file")
        return files


def read_text(path: Path) -> str:
    """The UTF-8 text of `path`; raises ConfigError that says what to do."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"data.sources: {path}: no such file or folder; correct data.sources.path "
            f"(relative paths start at the configuration's folder, --set paths at the current one)"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"data.sources: {path}: not UTF-8 at byte {error.start}; "
            f"convert it, as in: iconv -f latin1 -t utf-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"data.sources: {path}: cannot be read: {error.strerror}") from error
