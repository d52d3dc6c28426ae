"""Text sources, the token windows that passes train, score and evaluate on, and pictures."""

from nas.data._images import ImageSet, load_images, load_tokens
from nas.data._load import TextData, check_text, load_text_data, mask_token
from nas.data._masking import mask_tokens
from nas.data._pictures import as_bytes, labelled_images
from nas.data._samples import augmented, tokens_a_sample
from nas.data._split import Part, SourceRecord, Split
from nas.data._store import load_text, save_text, text_stamp

__all__ = [
    "ImageSet",
    "Part",
    "SourceRecord",
    "Split",
    "TextData",
    "as_bytes",
    "augmented",
    "check_text",
    "labelled_images",
    "load_images",
    "load_text",
    "load_text_data",
    "load_tokens",
    "mask_token",
    "mask_tokens",
    "save_text",
    "text_stamp",
    "tokens_a_sample",
]
