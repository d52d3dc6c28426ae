"""How well students tell masked tokens, and how close they stay to the teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas.chain import EncoderChain
from nas.errors import PassError
from nas.evaluation._language import ROWS, TEACHER, LanguageQuality


@torch.no_grad()
def masked_quality(
    teacher: EncoderChain,
    students: Mapping[str, EncoderChain],
    windows: Tensor,
    masked: Tensor,
    *,
    batch: int = 8,
) -> dict[str, LanguageQuality]:
    """Measure `students` and, under the name "teacher", the teacher itself.

    `windows` [n, L]: token ids; `masked` [n, L]: the same with masked tokens in them, as many in
    each window or so. `kl` counts all places, `nll` and `top1` the masked ones. All models have a
    masked head; the teacher runs once for all. Raises PassError where no token is masked.
    """
    hidden = masked != windows
    if len(windows) < 1 or not bool(hidden.any()):
        raise PassError(
            "evaluation needs text with masked tokens; give more text or raise "
            "data.evaluate_fraction"
        )
    models = {TEACHER: teacher, **students}
    kept: dict[str, list[list[Tensor]]] = {name: [] for name in models}
    for rows in torch.arange(len(windows)).split(batch):
        ids, wanted = masked[rows].to(teacher.device), windows[rows].to(teacher.device)
        reads = {name: chain(ids) for name, chain in models.items()}
        for name, chain in models.items():
            kept[name].append(_per_token((teacher, reads[TEACHER]), (chain, reads[name]), wanted))
    return {name: _quality(parts, hidden) for name, parts in kept.items()}


def _per_token(
    teacher: tuple[EncoderChain, Tensor], model: tuple[EncoderChain, Tensor], wanted: Tensor
) -> list[Tensor]:
    """KL, negative log-likelihood and agreement of each token [3][batch, tokens]."""
    found: list[list[Tensor]] = [[], [], []]
    states = (teacher[1].flatten(0, 1), model[1].flatten(0, 1))
    for i in range(0, wanted.numel(), ROWS):
        part = slice(i, i + ROWS)
        log_p, log_q = (
            chain.logits(state[part]).float().log_softmax(-1)
            for chain, state in zip((teacher[0], model[0]), states, strict=True)
        )
        found[0].append((log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0))
        found[1].append(-log_q.gather(-1, wanted.flatten()[part, None])[:, 0])
        found[2].append((log_p.argmax(-1) == log_q.argmax(-1)).float())
    return [torch.cat(values).reshape(wanted.shape).cpu() for values in found]


def _quality(parts: list[list[Tensor]], hidden: Tensor) -> LanguageQuality:
    kl, nll, top1 = (torch.cat(values).double() for values in zip(*parts, strict=True))

    def at_masked(values: Tensor) -> tuple[float, ...]:
        return tuple(((values * hidden).sum(1) / hidden.sum(1).clamp(min=1)).tolist())

    return LanguageQuality(tuple(kl.mean(1).tolist()), at_masked(nll), at_masked(top1))
