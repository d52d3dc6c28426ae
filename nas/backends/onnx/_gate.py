"""Whether an exported decoder is the decoder that was exported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas.backends.onnx._export import OnnxArtifact
from nas.errors import PassError

if TYPE_CHECKING:
    from nas.backends.onnxruntime import OnnxDecoder
    from nas.chain import DecoderChain


@dataclass(frozen=True)
class GateReport:
    """Largest absolute difference of the logits, and how many greedy tokens agreed.

    `ties` counts tokens that torch rates within the tolerance of its own first choice.
    """

    max_logits_difference: float
    greedy_tokens: int
    ties: int


def check_onnx(
    artifact: OnnxArtifact,
    chain: DecoderChain,
    ids: Tensor,
    *,
    greedy_tokens: int = 64,
    tolerance: float = 1e-3,
) -> GateReport:
    """Compare the file with torch on `ids` [batch, tokens], tokens >= 2.

    Logits: of two unpadded rows and of one row padded on the left, where tokens stand. Greedy:
    `greedy_tokens` tokens through the cache after half of the prompt, for an unpadded and a padded
    row at once; each must be torch's own choice after the same text. Raises PassError, with the
    difference, when either does not hold.
    """
    from nas.backends.onnxruntime import OnnxDecoder

    decoder, ids = OnnxDecoder(artifact.path), ids.cpu().long()
    with torch.no_grad():
        difference = max(_logits_difference(decoder, chain, *batch) for batch in _batches(ids))
        if not difference <= tolerance:  # so that NaN fails too
            raise PassError(
                f"{artifact.path}: logits differ from torch's by up to {difference:.3g}, "
                f"{tolerance:.3g} is allowed; the file does not compute this network"
            )
        ties = _compare_greedy(artifact, decoder, chain, ids, greedy_tokens, tolerance)
    return GateReport(difference, greedy_tokens, ties)


def _batches(ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids with padding mask: two unpadded rows, then an unpadded with a left-padded one."""
    rows = torch.cat([ids[:1], ids[-1:].flip(1) if len(ids) == 1 else ids[1:2]])
    yield rows, torch.ones_like(rows)
    yield _padded(ids[0])


def _padded(row: Tensor) -> tuple[Tensor, Tensor]:
    padding = max(1, len(row) // 3)
    ids = torch.stack([row, row.roll(padding)])
    mask = torch.ones_like(ids)
    mask[1, :padding] = 0
    return ids, mask


def _torch_logits(chain: DecoderChain, ids: Tensor, mask: Tensor) -> Tensor:
    device = chain.device
    ids, mask = ids.to(device), mask.to(device)
    return chain.forward_cached(ids, mask, chain.empty_cache(len(ids)))[0].float().cpu()


def _logits_difference(
    decoder: OnnxDecoder, chain: DecoderChain, ids: Tensor, mask: Tensor
) -> float:
    ours = torch.from_numpy(decoder.prefill(ids.numpy(), mask.numpy())).float()
    return float((ours - _torch_logits(chain, ids, mask))[mask.bool()].abs().max())


def _compare_greedy(
    artifact: OnnxArtifact,
    decoder: OnnxDecoder,
    chain: DecoderChain,
    ids: Tensor,
    tokens: int,
    tolerance: float,
) -> int:
    """Ties among the tokens.

    Torch reads the text that ONNX Runtime wrote, in one pass: if each token is torch's choice after
    those before it, torch alone writes the same text.
    """
    prompt, mask = _padded(ids[0, : max(2, ids.shape[1] // 2)])
    chosen = torch.from_numpy(decoder.greedy(prompt.numpy(), tokens, mask.numpy()))
    text = torch.cat([prompt, chosen], dim=1)[:, :-1]
    mask = torch.cat([mask, torch.ones_like(chosen)], dim=1)[:, :-1]
    logits = _torch_logits(chain, text, mask)[:, -tokens:]
    best, favourite = logits.max(-1)
    gap = best - logits.gather(-1, chosen[..., None])[..., 0]
    if not bool((gap <= tolerance).all()):
        row, step = (int(i) for i in (~(gap <= tolerance)).nonzero()[0])
        raise PassError(
            f"{artifact.path}: greedy token {step + 1} of {tokens} through the cache is "
            f"{int(chosen[row, step])}, torch writes {int(favourite[row, step])} "
            f"({float(gap[row, step]):.3g} apart in logits, {tolerance:.3g} counts as a tie)"
        )
    return int((chosen != favourite).sum())
