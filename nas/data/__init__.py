"""Text sources, and the token windows that passes train, score and evaluate on."""

from nas.data._load import TextData, check_text, load_text_data
from nas.data._split import Part, SourceRecord, Split
from nas.data._store import load_text, save_text, text_stamp

__all__ = [
    "Part",
    "SourceRecord",
    "Split",
    "TextData",
    "check_text",
    "load_text",
    "load_text_data",
    "save_text",
    "text_stamp",
]
