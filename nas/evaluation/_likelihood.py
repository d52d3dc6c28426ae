"""Log-likelihood of continuations under a chain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas.chain import DecoderChain
from nas.errors import ConfigError

_ROWS = 512


@dataclass(frozen=True)
class Request:
    """Token ids, of which the last `scored` are the continuation."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True)
class Likelihood:
    """`total`: summed log-probability in nats; `greedy`: whether every token is the likeliest."""

    total: float
    greedy: bool


def encode_pairs(
    tokenizer: Any, pairs: Iterable[tuple[str, str]], max_positions: int
) -> list[Request]:
    """Requests for (context, continuation), cut on the left to `max_positions` inputs.

    Context and continuation are encoded together, and the continuation is what follows the tokens
    of the context alone. A beginning-of-text token is put first where the tokenizer would.
    """
    first = _first_token(tokenizer)
    return [_encode(tokenizer, first, pair, max_positions) for pair in pairs]


def _encode(tokenizer: Any, first: list[int], pair: tuple[str, str], max_positions: int) -> Request:
    context, continuation = pair
    known = first + tokenizer.encode(context, add_special_tokens=False)
    ids = first + tokenizer.encode(context + continuation, add_special_tokens=False)
    if not known:
        fallback = tokenizer.bos_token_id
        if fallback is None:
            fallback = tokenizer.eos_token_id
        if fallback is None:
            raise ConfigError(f"no context before {continuation[:40]!r} and no token to begin with")
        known, ids = [fallback], [fallback, *ids]
    # a merge across the border may leave the continuation without a token of its own
    scored = max(1, len(ids) - len(known))
    ids = ids[-(max_positions + 1) :]
    return Request(tuple(ids), min(scored, len(ids) - 1))


def _first_token(tokenizer: Any) -> list[int]:
    """The beginning-of-text token, where the tokenizer adds it by itself."""
    opened = tokenizer.encode("a")
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and opened and opened[0] == bos else []


@torch.no_grad()
def likelihoods(chain: DecoderChain, requests: Sequence[Request], batch: int) -> list[Likelihood]:
    """One result a request, in their order; `batch` requests of like length run together."""
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].ids))
    found: dict[int, Likelihood] = {}
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        results = _run_batch(chain, [requests[i] for i in chosen])
        found.update(zip(chosen, results, strict=True))
    return [found[i] for i in range(len(requests))]


def _run_batch(chain: DecoderChain, requests: Sequence[Request]) -> Iterator[Likelihood]:
    """Padding stands on the right, where causal attention does not see it."""
    longest = max(len(request.ids) for request in requests) - 1
    ids = torch.zeros(len(requests), longest, dtype=torch.long)
    for row, request in enumerate(requests):
        ids[row, : len(request.ids) - 1] = torch.tensor(request.ids[:-1])
    ids = ids.to(chain.device)
    hidden = chain.final_hidden(chain.run(chain.embed_tokens(ids), chain.context(ids)))
    wanted = [
        hidden[row, len(request.ids) - 1 - request.scored : len(request.ids) - 1]
        for row, request in enumerate(requests)
    ]
    targets = torch.tensor([t for request in requests for t in request.ids[-request.scored :]])
    values, likeliest = _score(chain, torch.cat(wanted), targets.to(hidden.device))
    sizes = [request.scored for request in requests]
    for value, hit in zip(torch.split(values, sizes), torch.split(likeliest, sizes), strict=True):
        yield Likelihood(float(value.sum()), bool(hit.all()))


def _score(chain: DecoderChain, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target [rows] and whether it is the likeliest token."""
    values, likeliest = [], []
    for part, target in zip(torch.split(hidden, _ROWS), torch.split(targets, _ROWS), strict=True):
        log_q = chain.head(part).float().log_softmax(-1)
        values.append(log_q.gather(-1, target[:, None])[:, 0].double())
        likeliest.append(log_q.argmax(-1) == target)
    return torch.cat(values), torch.cat(likeliest)
