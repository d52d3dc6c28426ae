"""Whether an exported encoder is the encoder that was exported."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nas.backends.onnx._export import OnnxArtifact
from nas.chain import EncoderChain
from nas.errors import PassError


def check_encoder(
    artifact: OnnxArtifact, chain: EncoderChain, ids: Tensor, *, tolerance: float = 1e-3
) -> float:
    """Largest difference from torch over states of tokens and embeddings, or logits in their place,
    on `ids` [batch, tokens].

    Two batches of different sizes: the rows as they are, and the first beside one that is padded on
    the right. Raises PassError, with the difference, when it is above `tolerance`.
    """
    from nas.backends.onnxruntime import OnnxEncoder

    encoder, ids = OnnxEncoder(artifact.path), ids.cpu().long()
    difference = max(_difference(encoder, chain, *batch) for batch in _batches(ids))
    if not difference <= tolerance:  # so that NaN fails too
        raise PassError(
            f"{artifact.path}: states, embeddings or logits differ from torch's by up to "
            f"{difference:.3g}, {tolerance:.3g} is allowed; the file does not compute this network"
        )
    return difference


def _batches(ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    short = ids[:1, : max(1, ids.shape[1] - 3)]
    padded = torch.cat([short, short])
    mask = torch.ones_like(padded)
    mask[1, short.shape[1] // 2 + 1 :] = 0
    return [(ids, torch.ones_like(ids)), (padded, mask)]


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
