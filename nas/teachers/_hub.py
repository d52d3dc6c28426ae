"""Teachers by hub id, through huggingface_hub's cache."""

from __future__ import annotations

from pathlib import Path

from nas._quiet import quiet
from nas.errors import ConfigError

_DESCRIBING = ["config.json", "modules.json", "1_Pooling/config.json", "preprocessor_config.json"]
_OF_TOKENIZERS = ["*.json", "*.txt", "*.model", "*.jinja"]
_WANTED = [*_OF_TOKENIZERS, "*.safetensors"]
_CODE = ["*.py"]


def fetch(repo_id: str, revision: str | None, *, weights: bool, code: bool) -> Path:
    """The local folder of a hub repository, downloaded where the cache lacks it.

    Only what describes the network without `weights`; with them, and with `code`, the Python files
    of its tokenizer. Raises ConfigError where the hub has no such repository or cannot be reached.
    """
    wanted = [*_WANTED, *(_CODE if code else [])] if weights else _DESCRIBING
    return _snapshot("teacher.source", repo_id, revision, wanted)


def fetch_tokenizer(repo_id: str, *, code: bool) -> Path:
    """The local folder of a hub repository with what its tokenizer is read from; as `fetch`."""
    wanted = [*_OF_TOKENIZERS, *(_CODE if code else [])]
    return _snapshot("teacher.tokenizer", repo_id, None, wanted)


def _snapshot(key: str, repo_id: str, revision: str | None, patterns: list[str]) -> Path:
    import huggingface_hub

    try:
        with quiet():
            folder = huggingface_hub.snapshot_download(
                repo_id, revision=revision, allow_patterns=patterns
            )
    # the hub's errors have no common base, and those of its HTTP client change with its version
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        at = f" at revision {revision}" if revision else ""
        raise ConfigError(
            f"{key} {repo_id!r}: no such folder or file here, and no such repository{at} "
            f"could be fetched from the hub ({reason}); check the spelling, the network and, for a "
            f"gated model, `hf auth login`, or give the path of a local folder or GGUF file"
        ) from error
    return Path(folder)
