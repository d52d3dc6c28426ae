"""Second-order expansion of KL(teacher || network) about an architecture, from few backward passes.

Swapping block c into slot b moves the residual stream after b by delta_c (the candidate's output
less the present block's, on the present network's activations). With g the gradient at that point
of log q(y|x), the labels y drawn token by token from the network's own prediction q,
s_c = sum_t g_t . delta_c,t has mean 0 and E[s_c s_d] is the Fisher form of the two swaps, so that

    KL(A) = KL(present) + sum_c slope_c + 1/2 E[(sum_c s_c)^2],   sums over the swaps of A,

where slope_c = sum_t h_t . delta_c,t and h is the gradient of KL(teacher || network) itself, which
is zero about the teacher. One forward pass and a backward pass a draw give g at every boundary, so
each candidate costs one run of its own block (the Fisher form of the KL: Martens, arXiv 1412.1193).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.chain import Chain
from nas.data import tokens_a_sample
from nas.ir import Architecture, BlockSpec
from nas.sensitivity._network import MixedNetwork
from nas.sensitivity._shrinkage import shrunk_products
from nas.sensitivity._slotwise import Expanded, expand_slotwise
from nas.solvers import Quadratic
from nas.streaming import StreamedChain

Floats = npt.NDArray[np.float64]
_STATES_BYTES = 2**29
"""Held between the way forward and the way back; gradients come on top."""


@dataclass(frozen=True)
class Expansion:
    """About an architecture: what swaps do, in nats a token.

    `names` [C]: the swaps, `slot/label`. `slope` [sequences, C]: first order, mean over tokens.
    `scalars` [draws, sequences, C]: s_c over the root of the tokens, so that half the mean square
    is the second order in nats a token.
    """

    names: tuple[str, ...]
    slope: Floats
    scalars: Floats

    def single(self) -> Floats:
        """Change of the KL by each swap alone, for each sequence [sequences, C]."""
        return np.asarray(self.slope + 0.5 * np.square(self.scalars).mean(axis=0))

    def quadratic(self, options: Sequence[Sequence[str]]) -> Quadratic:
        """The change of the KL as a function of the options chosen, in the order of `options`.

        An option is a group of swaps that come together, most often one. A swap that was not
        expanded counts as no change.
        """
        at = {name: i for i, name in enumerate(self.names)}
        member = np.zeros((len(self.names), len(options)))
        for column, group in enumerate(options):
            member[[at[name] for name in group if name in at], column] = 1.0
        samples = self.scalars.reshape(-1, len(self.names)) @ member
        # Options of one slot never come together: what they share says nothing about the noise.
        slots = [group[0].rpartition("/")[0] if group else "" for group in options]
        products, _ = shrunk_products(samples, slots)
        return Quadratic(self.slope.mean(axis=0) @ member, 0.5 * products)


def expand(
    network: MixedNetwork,
    present: Architecture,
    swaps: Mapping[int, Sequence[BlockSpec]],
    ids: Tensor,
    *,
    draws: int,
    seed: int,
    batch_tokens: int = 1024,
    advance: Callable[[int], None] = lambda sequences: None,
    folder: Path | None = None,
) -> Expansion:
    """Expand about `present`. `swaps`: slot index -> specifications that may come into it.

    `ids` [sequences, tokens]; each batch of about `batch_tokens` is run forward, and slot by slot
    forward once more and backward `draws` times. Some batches, whose states are held, pass a slot
    before the next one's turn; about a streamed teacher all of them do, and states are in mapped
    files of `folder`.
    """
    generator = torch.Generator(device=ids.device).manual_seed(seed)
    swaps = {k: specs for k, specs in swaps.items() if specs}
    tokens, most = tokens_a_sample(ids), network.teacher.samples_at_once
    few = most if network.teacher.shape.reads_pictures else max(1, batch_tokens // tokens)
    pieces, parts = ids.split(few), []
    asked = Expanded(network, present, swaps)
    streamed = isinstance(network.teacher, StreamedChain)
    at_once = len(pieces) if streamed else _held(network.teacher, pieces[0])
    for i in range(0, len(pieces), at_once):
        some = pieces[i : i + at_once]
        where = folder if streamed else None
        parts += expand_slotwise(asked, some, draws, generator, advance, where)
    slots = network.teacher.slot_ids
    names = tuple(f"{slots[k].id}/{s.label}" for k in sorted(swaps) for s in swaps[k])
    slope, scalars = (np.concatenate(p, axis=-2) for p in zip(*parts, strict=True))
    return Expansion(names, slope / tokens, scalars / np.sqrt(tokens))


@torch.no_grad()
def _held(teacher: Chain, piece: Tensor) -> int:
    """How many batches pass a slot together: as many as have room for their states, at least one.
    A slot's candidates are read once for all of them."""
    states = len(teacher.slots) * teacher.embed_tokens(piece[:1]).nbytes * len(piece)
    return max(1, _STATES_BYTES // states)
