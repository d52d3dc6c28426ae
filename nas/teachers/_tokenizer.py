"""Tokenizers, wherever they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas._quiet import quiet
from nas.errors import ConfigError

_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
)
"""What transformers reads a tokenizer from, by the name in its folder."""


def tokenizer_files(path: Path, trust_remote_code: bool) -> list[Path]:
    """The files that decide how the tokenizer of a folder, or of a GGUF file, reads a text."""
    if path.is_file():
        return [path]
    code = sorted(path.glob("*.py")) if trust_remote_code else []
    return [file for name in _FILES if (file := path / name).is_file()] + code


def load_tokenizer(
    source: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> Any:
    """The tokenizer of a folder, a hub id or a GGUF file; raises ConfigError if there is none."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = Path(source)
    try:
        with quiet():
            if path.is_file():
                # the automatic class would parse the whole vocabulary a second time
                return PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
            return AutoTokenizer.from_pretrained(
                source, revision=revision, trust_remote_code=trust_remote_code
            )
    # transformers raises whatever the missing or torn file led to
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{source}: no usable tokenizer ({reason}); set teacher.tokenizer to a folder, hub id "
            f"or GGUF file that has one"
        ) from error


def check_tokenizer(tokenizer: Any, vocab_size: int, where: str) -> None:
    """Raise ConfigError where the tokenizer has tokens that the embedding has no row for."""
    if len(tokenizer) > vocab_size:
        raise ConfigError(
            f"{where}: the tokenizer has {len(tokenizer)} tokens, the teacher embeds {vocab_size}; "
            f"set teacher.tokenizer to the teacher's own"
        )
