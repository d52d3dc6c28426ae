"""What rounding allows two exact implementations to differ by.

Sums in another order differ by a millionth, which now and then puts an activation on the level
next to it; after some layers the errors of the two have little in common. So a gate allows twice
what rounding itself changes: a lost scale, zero point or mask changes far more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from nas.blocks import quantised_layers, with_exact_inputs
from nas.chain import Chain

ChainT = TypeVar("ChainT", bound=Chain)
BatchT = TypeVar("BatchT")


def rounds(chain: Chain) -> bool:
    """Whether any layer rounds what enters it."""
    return bool(quantised_layers(chain))


@torch.no_grad()
def limit_of(
    chain: ChainT,
    batches: Iterable[BatchT],
    results: Callable[[ChainT, BatchT], Tensor],
    tolerance: float,
) -> float:
    """`tolerance`, or twice the largest difference that rounding the inputs of layers makes to
    `results` of the chain, where that is more."""
    if not rounds(chain):
        return tolerance
    exact = with_exact_inputs(chain)
    noise = (float((results(chain, b) - results(exact, b)).abs().max()) for b in batches)
    return max(tolerance, 2 * max(noise))
