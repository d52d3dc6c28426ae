"""Score: what swapping one block into the teacher costs the whole network.

KL(teacher || teacher with the block swapped), for each scoring sequence (replace-1-block, arXiv
2411.19146, section 4.1). `replace_one` runs a candidate from its own slot on: the prefix is the
teacher's and is walked once for all. `one_backward` takes the second-order expansion of the same KL
about the teacher (`nas.sensitivity`), which runs no candidate beyond its own block.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from nas._numerics import compute_dtype
from nas.blocks import Block, BlockContext
from nas.chain import DecoderChain
from nas.ir import Architecture, Candidate, Slot
from nas.objectives import ReferenceKl
from nas.passes._context import PassContext
from nas.passes.build import load_block
from nas.run import content_key
from nas.sensitivity import MixedNetwork, expand


class _Prefix(NamedTuple):
    """The teacher up to a slot: residual state before it, and the slot's normed input."""

    state: Tensor
    normed: Tensor


def score(
    context: PassContext, candidates: Iterable[Candidate], block_keys: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Per-sequence scores of every candidate: id -> KL in nats, [score_sequences]."""
    by_slot: dict[Slot, list[Candidate]] = {}
    for candidate in candidates:
        by_slot.setdefault(candidate.slot, []).append(candidate)
    keys = {slot: slot_key(context, group, block_keys) for slot, group in by_slot.items()}
    missing = [s for s in by_slot if not context.run.fetch(f"score/{s.id}", keys[s])]
    if missing:
        method = {"replace_one": _replace_one, "one_backward": _one_backward}
        method[context.config.score.method](context, {s: by_slot[s] for s in missing}, keys)
    scores: dict[str, np.ndarray] = {}
    for slot in by_slot:
        scores |= read_scores(context.run.path("scores", f"{slot.id}.parquet"), slot)
    return scores


def slot_key(
    context: PassContext, candidates: Sequence[Candidate], block_keys: Mapping[str, str]
) -> str:
    """Unit key of a slot's scores."""
    keys = sorted(block_keys[c.id] for c in candidates)
    config = context.config.score
    draws = (config.draws,) if config.method == "one_backward" else ()
    return content_key("score", context.data_key, config.method, keys, *draws)


def read_scores(path: Path, slot: Slot) -> dict[str, np.ndarray]:
    """Columns of a slot's parquet file by candidate id."""
    table = pq.read_table(path)
    return {f"{slot.id}/{name}": table[name].to_numpy() for name in table.column_names}


def scoring_copy(chain: DecoderChain) -> DecoderChain:
    """The chain in the processor's fast format, its residual stream kept in float32."""
    return chain.in_dtype(compute_dtype(str(chain.embed.weight.device)))


def library_network(context: PassContext) -> MixedNetwork:
    """The run's teacher and library in the processor's fast format."""
    chain = scoring_copy(context.teacher.chain)
    device = str(chain.embed.weight.device)
    root, shape = context.run.root, chain.shape
    return MixedNetwork(chain, lambda slot, spec: load_block(root, shape, slot, spec, device))


def _one_backward(
    context: PassContext, wanted: Mapping[Slot, list[Candidate]], keys: Mapping[Slot, str]
) -> None:
    started, network = time.perf_counter(), library_network(context)
    index = {slot: k for k, slot in enumerate(network.teacher.slot_ids)}
    ids = context.text.score.to(network.teacher.embed.weight.device)
    with context.progress.task("score", len(ids)) as advance:
        expansion = expand(
            network,
            Architecture(),
            {index[slot]: [c.spec for c in group] for slot, group in wanted.items()},
            ids,
            draws=context.config.score.draws,
            seed=context.config.seed,
            advance=advance,
        )
    columns = dict(zip(expansion.names, expansion.single().T, strict=True))
    share = (time.perf_counter() - started) / len(wanted)
    for slot, group in wanted.items():
        _store(context, slot, keys[slot], {c.spec.label: columns[c.id] for c in group}, share)


@torch.no_grad()
def _replace_one(
    context: PassContext, wanted: Mapping[Slot, list[Candidate]], keys: Mapping[Slot, str]
) -> None:
    chain = scoring_copy(context.teacher.chain)
    ids = context.text.score.to(chain.embed.weight.device)
    rotary, state = chain.context(ids), chain.embed_tokens(ids)
    divergence = ReferenceKl(final_hidden(chain, chain.run(state, rotary)), chain.head)
    last = max(chain.slot_ids.index(slot) for slot in wanted)
    with context.progress.task("score", sum(map(len, wanted.values()))) as advance:
        for k, slot in enumerate(chain.slot_ids[: last + 1]):
            module = chain.slot(k)
            prefix = _Prefix(state, module.normed(state))
            if slot in wanted:
                started = time.perf_counter()
                columns = {}
                for candidate in wanted[slot]:
                    block = load_block(
                        context.run.root, chain.shape, slot, candidate.spec, str(ids.device)
                    )
                    kl = divergence(_swap(context, chain, k, prefix, block, rotary))
                    columns[candidate.spec.label] = kl.double().cpu().numpy()
                    advance(1)
                _store(context, slot, keys[slot], columns, time.perf_counter() - started)
            state = module(state, rotary)


def _swap(
    context: PassContext,
    chain: DecoderChain,
    k: int,
    prefix: _Prefix,
    block: Block | None,
    rotary: BlockContext,
) -> Tensor:
    """Input of the head [sequences, tokens, hidden] with `block` in slot k."""
    pieces = []
    step = context.config.score.batch_sequences
    for i in range(0, len(prefix.state), step):
        rows = slice(i, i + step)
        part = BlockContext(rotary.cos[rows], rotary.sin[rows], rotary.mask)
        state = prefix.state[rows]
        if block is not None:
            update = block.to(prefix.normed.dtype)(prefix.normed[rows], part)
            state = state + update.to(state.dtype)
        pieces.append(final_hidden(chain, chain.run(state, part, start=k + 1)))
    return torch.cat(pieces)


def final_hidden(chain: DecoderChain, state: Tensor) -> Tensor:
    """Input of the head in float32: the norm is applied at full precision."""
    wide = state.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + chain.norm.eps)
    return wide * chain.norm.weight.float()


def _store(
    context: PassContext, slot: Slot, key: str, columns: Mapping[str, np.ndarray], seconds: float
) -> None:
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    context.run.store(
        f"score/{slot.id}",
        key,
        {f"scores/{slot.id}.parquet": lambda path: pq.write_table(table, path)},
        {"means": {name: float(values.mean()) for name, values in columns.items()}},
        seconds,
    )
