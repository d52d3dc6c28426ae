"""Multiple-choice and cloze files: teacher beside students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from nas.chain import DecoderChain
from nas.errors import PassError
from nas.evaluation._bootstrap import Retained, accuracy_retained
from nas.evaluation._items import Cloze, Item, read_items
from nas.evaluation._language import TEACHER
from nas.evaluation._likelihood import Likelihood, encode_pairs, likelihoods


@dataclass(frozen=True)
class TaskScore:
    """Whether each item was answered rightly.

    Multiple choice: the choice of the largest log-likelihood (`right`), and of the largest
    log-likelihood per character (`right_normalised`). Cloze: every token of the continuation is the
    likeliest one; there is no normalised form. `retained` compares with the teacher.
    """

    right: tuple[bool, ...]
    right_normalised: tuple[bool, ...] | None
    retained: Retained | None = None
    retained_normalised: Retained | None = None

    @property
    def accuracy(self) -> float:
        return sum(self.right) / len(self.right)

    @property
    def accuracy_normalised(self) -> float | None:
        if self.right_normalised is None:
            return None
        return sum(self.right_normalised) / len(self.right_normalised)


@dataclass(frozen=True)
class TaskResult:
    """A task file and the score of each model on it."""

    name: str
    kind: Literal["multiple_choice", "cloze"]
    items: int
    scores: dict[str, TaskScore]


def evaluate_task(
    path: Path,
    models: Mapping[str, DecoderChain],
    tokenizer: Any,
    *,
    limit: int | None = None,
    batch: int = 16,
    dtype: torch.dtype | None = None,
) -> TaskResult:
    """Score `models`, of which the one named "teacher" is what the others are compared with.

    Raises ConfigError naming the line of a file that cannot be used.
    """
    if not models:
        raise PassError(f"{path}: no model to evaluate")
    items = read_items(path, limit)
    pairs = [pair for item in items for pair in item.pairs()]
    positions = min(chain.shape.max_positions for chain in models.values())
    requests = encode_pairs(tokenizer, pairs, positions)
    scores: dict[str, TaskScore] = {}
    for name in sorted(models, key=lambda name: name != TEACHER):
        chain = models[name] if dtype is None else models[name].in_dtype(dtype)
        found = likelihoods(chain, requests, batch)
        scores[name] = _beside(_judge(items, found), scores.get(TEACHER))
    kind: Literal["multiple_choice", "cloze"] = (
        "cloze" if isinstance(items[0], Cloze) else "multiple_choice"
    )
    return TaskResult(path.stem, kind, len(items), scores)


def _judge(items: Sequence[Item], found: Sequence[Likelihood]) -> TaskScore:
    plain: list[bool] = []
    normalised: list[bool] = []
    waiting = iter(found)
    for item in items:
        if isinstance(item, Cloze):
            plain.append(next(waiting).greedy)
            continue
        totals = [next(waiting).total for _ in item.choices]
        lengths = [len(choice.strip()) for choice in item.choices]
        shares = [total / length for total, length in zip(totals, lengths, strict=True)]
        plain.append(_largest(totals) == item.gold)
        normalised.append(_largest(shares) == item.gold)
    return TaskScore(tuple(plain), tuple(normalised) or None)


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _beside(score: TaskScore, teacher: TaskScore | None) -> TaskScore:
    """`score` with what it keeps of the teacher's accuracy."""
    if teacher is None:
        return score
    normalised = None
    if score.right_normalised is not None and teacher.right_normalised is not None:
        normalised = accuracy_retained(teacher.right_normalised, score.right_normalised)
    return TaskScore(
        score.right,
        score.right_normalised,
        accuracy_retained(teacher.right, score.right),
        normalised,
    )
