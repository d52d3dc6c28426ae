"""Whether an exported encoder is the encoder that was exported."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nas.backends.onnx._export import OnnxArtifact
from nas.backends.onnx._rounding import limit_of, rounds
from nas.chain import EncoderChain
from nas.errors import PassError


def check_encoder(
    artifact: OnnxArtifact, chain: EncoderChain, ids: Tensor, *, tolerance: float = 1e-3
) -> float:
    """Largest difference from torch over states of tokens and embeddings, or logits in their place,
    on `ids` [batch, tokens].

    Two batches of different sizes: the rows as they are, and the first beside one that is padded on
    the right; row by row where layers round their inputs. Raises PassError, with the difference,
    when it is above `encoder_limit`.
    """
    from nas.backends.onnxruntime import OnnxEncoder

    encoder, limit = OnnxEncoder(artifact.path), encoder_limit(chain, ids, tolerance)
    difference = max(_difference(encoder, chain, *batch) for batch in _batches(chain, ids))
    if not difference <= limit:  # so that NaN fails too
        raise PassError(
            f"{artifact.path}: states, embeddings or logits differ from torch's by up to "
            f"{difference:.3g}, {limit:.3g} is allowed; the file does not compute this network"
        )
    return difference


def encoder_limit(chain: EncoderChain, ids: Tensor, tolerance: float) -> float:
    """What a file may differ by: `tolerance`, or what rounding changes."""
    return limit_of(chain, _batches(chain, ids), _results, tolerance)


def _results(chain: EncoderChain, batch: tuple[Tensor, Tensor]) -> Tensor:
    """States of tokens, and the embedding, one after the other."""
    ids, mask = batch
    hidden = chain(ids.to(chain.device), mask.to(chain.device)).float().cpu()
    return torch.cat([hidden[mask.bool()].flatten(), chain.pool(hidden, mask).flatten()])


def _batches(chain: EncoderChain, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
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
def _difference(encoder: object, chain: EncoderChain, ids: Tensor, mask: Tensor) -> float:
    from nas.backends.onnxruntime import OnnxEncoder

    assert isinstance(encoder, OnnxEncoder)
    found = (torch.from_numpy(a.astype(np.float32)) for a in encoder.run(ids.numpy(), mask.numpy()))
    states, answers = found
    hidden = chain(ids.to(chain.device), mask.to(chain.device)).float()
    if chain.head is None:
        apart = answers - chain.pool(hidden.cpu(), mask)
    else:
        apart = (answers - chain.logits(hidden).float().cpu())[mask.bool()]
    wrong = (states - hidden.cpu())[mask.bool()]
    return max(float(wrong.abs().max()), float(apart.abs().max()))
