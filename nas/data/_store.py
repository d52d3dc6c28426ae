"""Token windows on disk, and a stamp that tells whether the text behind them has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from nas.config import DataConfig, FileText, ImageFile, JsonlText, TextSource
from nas.data._file import FileSource
from nas.data._load import TextData
from nas.data._split import Split
from nas.run import file_digest

_PARTS = ("train", "score", "evaluate")


def save_text(text: TextData, path: Path) -> None:
    """Write the windows as safetensors."""
    save_file({part: getattr(text, part).contiguous() for part in _PARTS}, path)


def load_text(path: Path, split: Any) -> TextData:
    """Read windows that `save_text` wrote, with the split that was recorded for them."""
    tensors = load_file(path)
    return TextData(**{part: tensors[part] for part in _PARTS}, split=Split.model_validate(split))


def text_stamp(config: DataConfig) -> list[str]:
    """Digests of the files behind the sources, in order; other sources are told by their name."""
    return [digest for source in config.sources for digest in _digests(source)]


def _digests(source: TextSource) -> list[str]:
    if isinstance(source, FileText):
        return [_digest(path) for path in FileSource(source).files()]
    if isinstance(source, (JsonlText, ImageFile)):
        return [_digest(source.path)]
    return [source.model_dump_json()]


def _digest(path: Path) -> str:
    """A file that is not there is reported by the reading, which says more about it."""
    return file_digest(path) if path.is_file() else "absent"
