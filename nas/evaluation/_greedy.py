"""How long two models say the same when they generate greedily."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nas.chain import DecoderChain, greedy_tokens


@dataclass(frozen=True)
class Agreement:
    """Free-running greedy generation of a student against the teacher's.

    `lengths`: per prompt, tokens until the first difference (`tokens` where there is none).
    `share`: equal tokens over all positions, the ones after a difference included.
    """

    tokens: int
    lengths: tuple[int, ...]
    share: float

    @property
    def mean_length(self) -> float:
        return sum(self.lengths) / len(self.lengths)


def greedy_agreement(
    teacher: DecoderChain, student: DecoderChain, prompts: Tensor, tokens: int
) -> Agreement:
    """Continue prompts [n, P] by `tokens` tokens with each model alone and compare."""
    prompts = prompts.to(teacher.device)
    return compare_tokens(
        greedy_tokens(teacher, prompts, tokens), greedy_tokens(student, prompts, tokens)
    )


def compare_tokens(expected: Tensor, found: Tensor) -> Agreement:
    """Agreement of generated tokens [n, tokens]; generate the teacher's once for many students."""
    equal = (expected == found).long()
    lengths = equal.cumprod(dim=1).sum(dim=1)
    return Agreement(
        equal.shape[1], tuple(int(length) for length in lengths), float(equal.float().mean())
    )
