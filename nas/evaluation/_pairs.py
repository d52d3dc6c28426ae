"""Files of text pairs: JSON lines with `a`, `b` and perhaps a `score` that people gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas._documents import load_json
from nas.chain import EncoderChain
from nas.errors import ConfigError
from nas.evaluation._embedding import pair_similarities, text_embedder
from nas.proxies import spearman


@dataclass(frozen=True)
class Pairs:
    """Text pairs; `scores` where every line has one."""

    texts: tuple[tuple[str, str], ...]
    scores: tuple[float, ...] | None


def read_pairs(path: Path, limit: int | None = None) -> Pairs:
    """Read a file of pairs; raises ConfigError that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"evaluate.pairs: {path} cannot be read: {error}") from error
    texts, scores = [], []
    for number, line in enumerate(lines[:limit], start=1):
        try:
            item = load_json(line)
            texts.append((str(item["a"]), str(item["b"])))
            if "score" in item:
                scores.append(float(item["score"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{path}, line {number}: expected an object with the texts a and b, and perhaps a "
                f"score: {error!r}"
            ) from error
    if len(texts) < 3:
        raise ConfigError(f"{path}: {len(texts)} pairs; at least 3 are needed to rank them")
    if scores and len(scores) != len(texts):
        raise ConfigError(f"{path}: {len(scores)} of {len(texts)} lines have a score; all or none")
    return Pairs(tuple(texts), tuple(scores) or None)


def rank_pairs(
    pairs: Pairs, models: Mapping[str, EncoderChain], tokenizer: Any
) -> dict[str, float]:
    """Spearman of each model's cosines with the scores, or, where there are none, with those of the
    first model."""
    cosines = {
        name: pair_similarities(text_embedder(chain, tokenizer), pairs.texts)
        for name, chain in models.items()
    }
    first = next(iter(cosines.values()))
    wanted = first if pairs.scores is None else np.asarray(pairs.scores)
    return {name: spearman(wanted, found) for name, found in cosines.items()}
