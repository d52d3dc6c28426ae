"""Documents to one stream of tokens, with a record of what went in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.data._base import TextSource
from nas.data._split import SourceRecord
from nas.errors import ConfigError

_BATCH_DOCUMENTS = 256


def token_stream(
    sources: Iterable[TextSource], tokenizer: Any
) -> tuple[Tensor, tuple[SourceRecord, ...]]:
    """Tokens [n] int64 of all sources in order, and one record a source.

    One separator stands between documents: the token that the tokenizer opens a text with where it
    does so (then it opens the stream as well), else the end-of-text token where there is one.
    Raises ConfigError for a source without text and for the same text given twice.
    """
    opening, separator = _separators(tokenizer)
    parts = [np.array(opening, np.int32)]
    between = np.array(separator, np.int32)
    records: list[SourceRecord] = []
    for source in sources:
        digest, documents, tokens = hashlib.sha256(), 0, 0
        for batch in _batches(source.documents()):
            for text in batch:
                digest.update(text.encode() + b"\0")
            for ids in _encode(tokenizer, batch):
                if documents or records:
                    parts.append(between)
                parts.append(np.array(ids, np.int32))
                documents, tokens = documents + 1, tokens + len(ids)
        if documents == 0:
            raise ConfigError(f"data.sources: {source.name} holds no text; remove it or fill it")
        records.append(
            SourceRecord(
                name=source.name, sha256=digest.hexdigest(), documents=documents, tokens=tokens
            )
        )
    _refuse_repeats(records)
    return torch.from_numpy(np.concatenate(parts)).long(), tuple(records)


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids without special tokens; `verbose` off keeps long texts from being warned about."""
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _separators(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What opens the stream, and what stands between documents."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is not None and tokenizer("a")["input_ids"][:1] == [bos]:
        return [bos], [bos]
    return [], [] if eos is None else [eos]


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(documents, _BATCH_DOCUMENTS)):
        yield batch


def _refuse_repeats(records: list[SourceRecord]) -> None:
    seen: dict[str, str] = {}
    for record in records:
        if record.sha256 in seen:
            raise ConfigError(
                f"data.sources: {record.name} and {seen[record.sha256]} hold the same text, which "
                f"would be trained on and evaluated on; remove one of them"
            )
        seen[record.sha256] = record.name
