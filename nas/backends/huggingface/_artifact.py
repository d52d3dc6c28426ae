"""What an export leaves behind, and what its gate found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HuggingFaceArtifact:
    """An exported folder. `files` are relative to it; `parameters` counts tied weights once."""

    folder: Path
    files: tuple[str, ...]
    dtype: str
    parameters: int


@dataclass(frozen=True)
class HuggingFaceReport:
    """Largest absolute difference of the logits, and how many greedy tokens agreed."""

    max_logits_difference: float
    greedy_tokens: int
