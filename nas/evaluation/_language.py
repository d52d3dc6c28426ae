"""How well students predict held-out text, and how close they stay to the teacher."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nas.chain import DecoderChain
from nas.errors import PassError

TEACHER = "teacher"
ROWS = 512


@dataclass(frozen=True)
class LanguageQuality:
    """Quality on windows of text, one number a window, in nats per token.

    `kl`: KL(teacher || model) over all positions. `nll`: negative log-likelihood of every token but
    the first. `top1`: share of positions at which the likeliest token is the teacher's.
    """

    kl: tuple[float, ...]
    nll: tuple[float, ...]
    top1: tuple[float, ...]

    @property
    def kl_mean(self) -> float:
        return statistics.fmean(self.kl)

    @property
    def kl_standard_error(self) -> float | None:
        """Standard error of `kl_mean` over windows; None for a single window."""
        if len(self.kl) < 2:
            return None
        return statistics.stdev(self.kl) / math.sqrt(len(self.kl))

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood per token."""
        return math.exp(statistics.fmean(self.nll))

    @property
    def top1_agreement(self) -> float:
        return statistics.fmean(self.top1)


@dataclass
class _Rows:
    """Per-token values of one model, in the order of the windows."""

    kl: list[Tensor] = field(default_factory=list)
    nll: list[Tensor] = field(default_factory=list)
    agrees: list[Tensor] = field(default_factory=list)

    def quality(self, windows: int) -> LanguageQuality:
        kl, nll, agrees = (
            torch.cat(values).double().reshape(windows, -1)
            for values in (self.kl, self.nll, self.agrees)
        )
        # the last position has no next token in its window
        means = (kl.mean(1), nll[:, :-1].mean(1), agrees.mean(1))
        return LanguageQuality(*(tuple(mean.tolist()) for mean in means))


@torch.no_grad()
def language_quality(
    teacher: DecoderChain,
    students: Mapping[str, DecoderChain],
    windows: Tensor,
    *,
    batch: int = 8,
    dtype: torch.dtype | None = None,
) -> dict[str, LanguageQuality]:
    """Measure `students` and, under the name "teacher", the teacher itself.

    `windows`: token ids [n, L], each read with an empty past; L is at least 2. The teacher runs
    once for all students. `dtype` is the format of the matrix products (None: the teacher's);
    softmax and sums are float32 on `ROWS` rows of the vocabulary at a time, so memory does not grow
    with n. Raises PassError for unusable windows or a student of another vocabulary.
    """
    _require_usable(teacher, students, windows)
    device = teacher.device
    dtype = dtype or teacher.dtype
    reference = teacher.in_dtype(dtype)
    models = {name: student.in_dtype(dtype) for name, student in students.items()}
    rows = {name: _Rows() for name in (TEACHER, *students)}
    for ids in torch.split(windows.to(device), batch):
        _measure_batch(reference, models, ids, rows)
    return {name: values.quality(len(windows)) for name, values in rows.items()}


def _require_usable(
    teacher: DecoderChain, students: Mapping[str, DecoderChain], windows: Tensor
) -> None:
    if windows.ndim != 2 or windows.shape[0] < 1 or windows.shape[1] < 2:
        raise PassError(
            f"evaluation needs windows of at least 2 tokens, found shape {list(windows.shape)}; "
            "give more text or raise data.evaluate_fraction"
        )
    if TEACHER in students:
        raise PassError(f"no student may be called {TEACHER!r}; give it another name")
    for name, student in students.items():
        if student.shape.vocab_size != teacher.shape.vocab_size:
            raise PassError(
                f"student {name} has {student.shape.vocab_size} tokens, the teacher "
                f"{teacher.shape.vocab_size}; compare students of this teacher"
            )


def _measure_batch(
    teacher: DecoderChain,
    students: Mapping[str, DecoderChain],
    ids: Tensor,
    rows: Mapping[str, _Rows],
) -> None:
    """Add the per-token values of one batch [b, L] to `rows`."""
    following = torch.roll(ids, -1, dims=1).flatten()
    reference = _hidden(teacher, ids)
    hidden = {name: _hidden(student, ids) for name, student in students.items()}
    for i in range(0, len(following), ROWS):
        part = slice(i, i + ROWS)
        log_p = _log_probabilities(teacher, reference[part])
        p, top, targets = log_p.exp(), log_p.argmax(-1), following[part, None]
        _add(rows[TEACHER], torch.zeros_like(p[:, 0]), log_p, targets, top)
        for name, student in students.items():
            log_q = _log_probabilities(student, hidden[name][part])
            kl = (log_p - log_q).mul_(p).sum(-1).clamp(min=0)
            _add(rows[name], kl, log_q, targets, top)


def _hidden(chain: DecoderChain, ids: Tensor) -> Tensor:
    """Inputs of the head [tokens, hidden]."""
    state = chain.run(chain.embed_tokens(ids), chain.context(ids))
    return chain.final_hidden(state).flatten(0, 1)


def _log_probabilities(chain: DecoderChain, hidden: Tensor) -> Tensor:
    logits: Tensor = chain.head(hidden)
    return logits.float().log_softmax(-1)


def _add(rows: _Rows, kl: Tensor, log_q: Tensor, targets: Tensor, top: Tensor) -> None:
    rows.kl.append(kl.cpu())
    rows.nll.append(-log_q.gather(-1, targets)[:, 0].cpu())
    rows.agrees.append((log_q.argmax(-1) == top).float().cpu())
