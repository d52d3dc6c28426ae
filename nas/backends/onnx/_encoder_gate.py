"""Whether an exported encoder is the encoder that was exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nas.backends.onnx._export import OnnxArtifact
from nas.backends.onnx._rounding import limit_of, rounds
from nas.chain import EncoderChain
from nas.errors import PassError

if TYPE_CHECKING:
    from nas.backends.onnxruntime import OnnxEncoder


@dataclass(frozen=True)
class EncoderDifference:
    """Largest differences, or limits on them: of the states of tokens, and of the `answers`, which
    are embeddings, or with a masked head logits."""

    states: float
    answers: float

    @property
    def most(self) -> float:
        return max(self.states, self.answers)


def check_encoder(
    artifact: OnnxArtifact, chain: EncoderChain, ids: Tensor, *, tolerance: float = 1e-3
) -> EncoderDifference:
    """Largest differences from torch on `ids` [batch, tokens].

    Two batches of different sizes: the rows as they are, and the first beside one that is padded on
    the right; row by row where layers round their inputs. Raises PassError, with the difference,
    when one is above its `encoder_limit`.
    """
    from nas.backends.onnxruntime import OnnxEncoder

    encoder, limit = OnnxEncoder(artifact.path), encoder_limit(chain, ids, tolerance)
    found = [_difference(encoder, chain, batch) for batch in _batches(chain, ids)]
    answers = "embeddings" if chain.head is None else "logits"
    for what, name in (("states", "states"), ("answers", answers)):
        allowed = getattr(limit, what)
        for batch in found:
            if not getattr(batch, what) <= allowed:  # so that NaN fails too
                raise PassError(
                    f"{artifact.path}: {name} differ from torch's by up to "
                    f"{getattr(batch, what):.3g}, {allowed:.3g} is allowed; the file does not "
                    f"compute this network"
                )
    return EncoderDifference(max(b.states for b in found), max(b.answers for b in found))


def encoder_limit(chain: EncoderChain, ids: Tensor, tolerance: float) -> EncoderDifference:
    """What a file may differ by: `tolerance`, or what rounding changes. States and answers have one
    each, for a head may make more of a difference, and a mean over tokens less."""
    batches = _batches(chain, ids)
    return EncoderDifference(
        limit_of(chain, batches, _states, tolerance), limit_of(chain, batches, _answers, tolerance)
    )


Batch = tuple[Tensor, Tensor]
"""Token ids and their mask, [batch, tokens] each."""


def _states(chain: EncoderChain, batch: Batch) -> Tensor:
    """[tokens, hidden] where tokens stand."""
    return _hidden(chain, batch)[batch[1].bool()]


def _answers(chain: EncoderChain, batch: Batch) -> Tensor:
    """Embeddings [batch, hidden], or logits [tokens, vocab] where tokens stand."""
    hidden, mask = _hidden(chain, batch), batch[1]
    if chain.head is None:
        return chain.pool(hidden, mask)
    return chain.logits(hidden[mask.bool()].to(chain.device)).float().cpu()


def _hidden(chain: EncoderChain, batch: Batch) -> Tensor:
    ids, mask = (values.to(chain.device) for values in batch)
    hidden: Tensor = chain(ids, mask)
    return hidden.float().cpu()


def _batches(chain: EncoderChain, ids: Tensor) -> list[Batch]:
    ids = ids.cpu().long()
    short = ids[:1, : max(1, ids.shape[1] - 3)]
    padded = torch.cat([short, short])
    mask = torch.ones_like(padded)
    mask[1, short.shape[1] // 2 + 1 :] = 0
    batches = [(ids, torch.ones_like(ids)), (padded, mask)]
    if rounds(chain):
        return [
            (row[None], seen[None]) for batch in batches for row, seen in zip(*batch, strict=True)
        ]
    return batches


@torch.no_grad()
def _difference(encoder: OnnxEncoder, chain: EncoderChain, batch: Batch) -> EncoderDifference:
    ids, mask = batch
    run = encoder.run(ids.numpy(), mask.numpy())
    states, answers = (torch.from_numpy(found.astype(np.float32)) for found in run)
    if chain.head is not None:
        answers = answers[mask.bool()]
    return EncoderDifference(
        float((states[mask.bool()] - _states(chain, batch)).abs().max()),
        float((answers - _answers(chain, batch)).abs().max()),
    )
