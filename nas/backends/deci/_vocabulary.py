"""The keys `tokenizer.*` of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nas._imports import require
from nas.errors import ArtifactError, CapabilityError

Fields = dict[str, tuple[Any, Any, Any]]
"""Key -> value, its type, and the type of an array's members."""

_PREFIX = "tokenizer."
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
SPLITS = ("llama-bpe", "smollm", "qwen2", "gpt-2", "default", "starcoder", "refact", "deepseek-llm")
"""How llama.cpp may split text before merges, by its own names; the first that agrees is taken."""
_SAMPLE = (
    "Hello World! It's 3.14159 or 2024-05-17, isn't it?\n\n  def f(x):\n\treturn x**2  # naïve "
    "café\nÀ bientôt — 数字 123456 и слова…  THE END\r\n   trailing   "
)


def of_file(path: Path) -> Fields:
    """All that a GGUF file says of its tokenizer. Raises ArtifactError for a torn file."""
    gguf = require("gguf", extra="gguf")
    try:
        fields = gguf.GGUFReader(str(path)).fields
        return {
            name: (field.contents(), field.types[0], field.types[1] if field.types[1:] else None)
            for name, field in fields.items()
            if name.startswith(_PREFIX)
        }
    except (OSError, ValueError, LookupError) as error:
        raise ArtifactError(f"{path}: no GGUF file with a tokenizer: {error}") from error


def of_tokenizer(tokenizer: Any, size: int, reads_alike: Callable[[Fields], bool]) -> Fields:
    """The keys for a byte-level BPE tokenizer of transformers, padded to `size` tokens.

    llama.cpp knows by name how text is split before it is merged; `reads_alike` tells whether it
    reads text as the tokenizer does by the name that stands in the fields. Raises CapabilityError
    for other kinds of tokenizers, and where no name fits."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kind = {"model": {}} if backend is None else json.loads(backend.to_str())
    model = kind["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise CapabilityError(
            f"export.formats: gguf takes byte-level BPE tokenizers, this is "
            f"{model.get('type', type(tokenizer).__name__)}"
            f"{' with byte fallback' if model.get('byte_fallback') else ''}; convert the Hugging "
            f"Face folder's tokenizer by other means, or leave gguf out"
        )
    for split in SPLITS:
        fields = dict(_fields(tokenizer, model, kind, size, split))
        if reads_alike(fields):
            return fields
    raise CapabilityError(
        f"export.formats: none of llama.cpp's ways to split text ({', '.join(SPLITS)}) reads text "
        f"as this tokenizer does; leave gguf out"
    )


def sample_reads_alike(tokenizer: Any, read: Callable[[bytes], list[int]]) -> bool:
    """Whether `read` gives the tokenizer's own ids for a text with numbers, spaces and signs, with
    what it adds at either end."""
    own: list[int] = tokenizer(_SAMPLE)["input_ids"]
    return read(_SAMPLE.encode()) == own


def _fields(
    tokenizer: Any, model: Any, kind: Any, size: int, split: str
) -> Iterator[tuple[str, tuple[Any, Any, Any]]]:
    types = require("gguf", extra="gguf").GGUFValueType
    added = {entry["id"]: entry for entry in kind.get("added_tokens", ())}
    by_id = {i: token for token, i in model["vocab"].items()}
    by_id |= {i: entry["content"] for i, entry in added.items()}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(size)]
    kinds = [_kind(i, added, by_id) for i in range(size)]
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    yield "tokenizer.ggml.model", ("gpt2", types.STRING, None)
    yield "tokenizer.ggml.pre", (split, types.STRING, None)
    yield "tokenizer.ggml.tokens", (tokens, types.ARRAY, types.STRING)
    yield "tokenizer.ggml.token_type", (kinds, types.ARRAY, types.INT32)
    if merges:
        yield "tokenizer.ggml.merges", (merges, types.ARRAY, types.STRING)
    for name in ("bos", "eos", "pad"):
        found = getattr(tokenizer, f"{name}_token_id")
        if found is not None:
            key = "padding" if name == "pad" else name
            yield f"tokenizer.ggml.{key}_token_id", (int(found), types.UINT32, None)
    # llama.cpp adds by itself what the training text was opened with, or not.
    for name, adds in zip(("bos", "eos"), _ends(tokenizer), strict=True):
        yield f"tokenizer.ggml.add_{name}_token", (adds, types.BOOL, None)
    if getattr(tokenizer, "chat_template", None):
        yield "tokenizer.chat_template", (str(tokenizer.chat_template), types.STRING, None)


def _ends(tokenizer: Any) -> tuple[bool, bool]:
    """Whether the tokenizer opens a text with its first token, and closes it with its last."""
    ids: list[int] = tokenizer("a")["input_ids"]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return bos is not None and ids[:1] == [bos], eos is not None and ids[-1:] == [eos]


def _kind(token: int, added: dict[int, Any], by_id: dict[int, str]) -> int:
    if token not in by_id:
        return _UNUSED
    if token in added:
        return _CONTROL if added[token].get("special") else _USER_DEFINED
    return _NORMAL
