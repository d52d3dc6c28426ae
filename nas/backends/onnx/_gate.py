"""Whether an exported decoder is the decoder that was exported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas.backends.onnx._export import OnnxArtifact
from nas.backends.onnx._rounding import limit_of, rounds
from nas.errors import PassError

if TYPE_CHECKING:
    from nas.backends.onnxruntime import OnnxDecoder
    from nas.chain import DecoderChain


@dataclass(frozen=True)
class GateReport:
    """Largest absolute difference of the logits, and how many greedy tokens agreed.

    `ties` counts tokens that torch rates within the tolerance of its own first choice. `limit` is
    that tolerance: what was asked for, or what rounding allows.
    """

    max_logits_difference: float
    limit: float
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
    row at once; each must be torch's own choice after the same text. Where layers round their
    inputs, rows are run one by one, for the runtime takes the range of a whole batch, and the
    tolerance is at least what that rounding changes. Raises PassError, with the difference, when
    either does not hold.
    """
    from nas.backends.onnxruntime import OnnxDecoder

    decoder, ids = OnnxDecoder(artifact.path), ids.cpu().long()
    with torch.no_grad():
        batches = list(_batches(ids))
        if rounds(chain):
            batches = [(i[None], m[None]) for batch in batches for i, m in zip(*batch, strict=True)]
        limit = limit_of(chain, batches, _shown_logits, tolerance)
        difference = max(_logits_difference(decoder, chain, *batch) for batch in batches)
        if not difference <= limit:  # so that NaN fails too
            raise PassError(
                f"{artifact.path}: logits differ from torch's by up to {difference:.3g}, "
                f"{limit:.3g} is allowed; the file does not compute this network"
            )
        ties = _compare_greedy(artifact, decoder, chain, ids, greedy_tokens, limit)
    return GateReport(difference, limit, greedy_tokens, ties)


def _shown_logits(chain: DecoderChain, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Logits where tokens stand [tokens, vocab]."""
    return _torch_logits(chain, *batch)[batch[1].bool()]


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

    Torch reads the text that ONNX Runtime wrote: if each token is torch's choice after those before
    it, torch alone writes the same text.
    """
    prompt, mask = _padded(ids[0, : max(2, ids.shape[1] // 2)])
    write = _written_by_rows if rounds(chain) else _written
    chosen, logits = write(decoder, chain, prompt, mask, tokens)
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


def _written(
    decoder: OnnxDecoder, chain: DecoderChain, prompt: Tensor, mask: Tensor, tokens: int
) -> tuple[Tensor, Tensor]:
    """Tokens that ONNX Runtime writes [batch, tokens], and torch's logits before each."""
    chosen = torch.from_numpy(decoder.greedy(prompt.numpy(), tokens, mask.numpy()))
    text = torch.cat([prompt, chosen], dim=1)[:, :-1]
    mask = torch.cat([mask, torch.ones_like(chosen)], dim=1)[:, :-1]
    return chosen, _torch_logits(chain, text, mask)[:, -tokens:]


def _written_by_rows(
    decoder: OnnxDecoder, chain: DecoderChain, prompt: Tensor, mask: Tensor, tokens: int
) -> tuple[Tensor, Tensor]:
    """The same, a row and a token at a time: a range holds for all that is run at once."""
    rows = [
        _written_row(decoder, chain, row, shown, tokens)
        for row, shown in zip(prompt.split(1), mask.split(1), strict=True)
    ]
    chosen, logits = zip(*rows, strict=True)
    return torch.cat(chosen), torch.cat(logits)


def _written_row(
    decoder: OnnxDecoder, chain: DecoderChain, row: Tensor, mask: Tensor, tokens: int
) -> tuple[Tensor, Tensor]:
    chosen = torch.from_numpy(decoder.greedy(row.numpy(), tokens, mask.numpy()))
    return chosen, logits_before(chain, row, mask, chosen)


@torch.no_grad()
def logits_before(chain: DecoderChain, row: Tensor, mask: Tensor, chosen: Tensor) -> Tensor:
    """Torch's logits [1, tokens, vocab] before each token of `chosen` [1, tokens] after the prompt
    `row` [1, prompt], through its cache: the prompt at once, then a token at a time."""
    past, found, ids = chain.empty_cache(1), [], row
    mask = torch.cat([mask, torch.ones_like(chosen)], dim=1)
    for step in range(chosen.shape[1]):
        shown = mask[:, : row.shape[1] + step]
        logits, past = chain.forward_cached(ids.to(chain.device), shown.to(chain.device), past)
        found.append(logits[:, -1:].float().cpu())
        ids = chosen[:, step : step + 1]
    return torch.cat(found, dim=1)
