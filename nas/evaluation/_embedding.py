"""How near a student's embeddings stay to the teacher's: themselves, and what is done with them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.chain import EncoderChain, VisionChain
from nas.chain._encoder import embed_texts
from nas.errors import PassError
from nas.evaluation._language import TEACHER
from nas.proxies import spearman

NEIGHBOURS = 10
Embedder = EncoderChain | VisionChain


@dataclass(frozen=True)
class EmbeddingQuality:
    """Quality on texts. `distance`: 1 - cos(teacher, model) of each text.

    `similarity_spearman`: rank correlation of the cosines of all pairs of texts with the teacher's.
    `recall_at_10`: mean share of the teacher's ten nearest texts among the model's ten; None for
    fewer than twelve texts.
    """

    distance: tuple[float, ...]
    similarity_spearman: float
    recall_at_10: float | None

    @property
    def distance_mean(self) -> float:
        return statistics.fmean(self.distance)

    @property
    def distance_standard_error(self) -> float | None:
        """Standard error of the mean over texts; None for a single text."""
        if len(self.distance) < 2:
            return None
        return statistics.stdev(self.distance) / math.sqrt(len(self.distance))


def embedding_quality(
    teacher: Embedder, students: Mapping[str, Embedder], windows: Tensor, *, batch: int = 32
) -> dict[str, EmbeddingQuality]:
    """Measure `students` and, under the name "teacher", the teacher itself on token ids
    `windows` [n, L] without padding, or pictures [n, 3, side, side], n at least 3. Raises PassError
    for fewer."""
    if len(windows) < 3:
        raise PassError(
            f"evaluation of embeddings needs at least 3 texts or pictures, found {len(windows)}; "
            f"give more or raise data.evaluate_fraction"
        )
    reference = _embed(teacher, windows, batch)
    return {
        name: compare_embeddings(reference, _embed(model, windows, batch))
        for name, model in {TEACHER: teacher, **students}.items()
    }


def compare_embeddings(teacher: Tensor, model: Tensor) -> EmbeddingQuality:
    """Quality of embeddings [n, hidden] of the same texts."""
    teacher, model = (torch.nn.functional.normalize(e.double(), dim=-1) for e in (teacher, model))
    wanted, found = teacher @ teacher.T, model @ model.T
    above = torch.triu_indices(len(teacher), len(teacher), 1)
    return EmbeddingQuality(
        tuple((0.5 * (teacher - model).pow(2).sum(-1)).tolist()),
        spearman(wanted[above[0], above[1]].numpy(), found[above[0], above[1]].numpy()),
        _recall(wanted, found) if len(teacher) > NEIGHBOURS + 1 else None,
    )


def pair_similarities(
    embed: Callable[[Sequence[str]], Tensor], pairs: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Cosines [n] of pairs of texts."""
    first, second = (embed([pair[i] for pair in pairs]) for i in (0, 1))
    return torch.nn.functional.cosine_similarity(first, second, dim=-1).numpy()


def text_embedder(
    chain: EncoderChain, tokenizer: Any, batch: int = 32
) -> Callable[[Sequence[str]], Tensor]:
    """A function from texts to their embeddings [n, hidden]; long texts are cut."""

    def embed(texts: Sequence[str]) -> Tensor:
        # By length, so that little is padded.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = torch.empty(len(texts), chain.shape.hidden_size)
        for i in range(0, len(order), batch):
            rows = order[i : i + batch]
            encoded = tokenizer(
                [texts[r] for r in rows],
                padding=True,
                truncation=True,
                max_length=chain.shape.max_positions,
                return_tensors="pt",
            )
            ids, mask = (encoded[n].to(chain.device) for n in ("input_ids", "attention_mask"))
            found[rows] = embed_texts(chain, ids, mask).cpu()
        return found

    return embed


@torch.no_grad()
def _embed(chain: Embedder, windows: Tensor, batch: int) -> Tensor:
    pieces = windows.to(chain.device).split(batch)
    return torch.cat([chain.embeddings(ids).cpu() for ids in pieces])


def _recall(wanted: Tensor, found: Tensor) -> float:
    """Texts are not their own neighbours."""
    nearest = []
    for similarities in (wanted, found):
        apart = similarities - 4 * torch.eye(len(similarities), dtype=similarities.dtype)
        nearest.append(apart.topk(NEIGHBOURS, dim=-1).indices)
    hits = (nearest[0][:, :, None] == nearest[1][:, None, :]).any(-1)
    return float(hits.double().mean())
