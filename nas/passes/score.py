"""Score: what swapping one block into the teacher costs the whole network.

KL(teacher || teacher with the block swapped), for each scoring sequence (replace-1-block, arXiv
2411.19146, section 4.1). `replace_one` runs a candidate from its own slot on: the prefix is the
teacher's and is walked once for all. `one_backward` takes the second-order expansion of the same KL
about the teacher (`nas.sensitivity`), which runs no candidate beyond its own block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from nas._numerics import compute_dtype
from nas.blocks import BlockContext
from nas.chain import DecoderChain
from nas.ir import Architecture, BlockSpec, Candidate, Slot
from nas.objectives import ReferenceKl
from nas.passes._context import PassContext
from nas.passes.build import load_block
from nas.run import content_key
from nas.sensitivity import MixedNetwork, expand, final_hidden


class _Prefix(NamedTuple):
    """The teacher up to a slot: residual state before it, and the slot's normed input."""

    state: Tensor
    normed: Tensor


def score(
    context: PassContext, candidates: Iterable[Candidate], block_keys: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Per-sequence scores of every candidate: id -> KL in nats, [score_sequences]."""
    by_slot = grouped(candidates)
    keys = {slot: slot_key(context, group, block_keys) for slot, group in by_slot.items()}
    missing = [s for s in by_slot if not context.run.fetch(f"score/{s.id}", keys[s])]
    if missing:
        method = {"replace_one": _replace_one, "one_backward": _one_backward}
        method[context.config.score.method](context, {s: by_slot[s] for s in missing}, keys)
    scores: dict[str, np.ndarray] = {}
    for slot in by_slot:
        scores |= read_scores(context.run.path("scores", f"{slot.id}.parquet"), slot)
    return scores


def grouped(candidates: Iterable[Candidate]) -> dict[Slot, list[Candidate]]:
    """Candidates by slot, both in their order."""
    found: dict[Slot, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.slot, []).append(candidate)
    return found


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
        store_scores(context, slot, keys[slot], {c.spec.label: columns[c.id] for c in group}, share)


def _replace_one(
    context: PassContext, wanted: Mapping[Slot, list[Candidate]], keys: Mapping[Slot, str]
) -> None:
    network = library_network(context)
    ids = context.text.score.to(network.teacher.embed.weight.device)
    batch = context.config.score.batch_sequences
    with context.progress.task("score", sum(map(len, wanted.values()))) as advance:
        started = time.perf_counter()
        for slot, columns in replace_one(network, wanted, ids, batch, advance):
            store_scores(context, slot, keys[slot], columns, time.perf_counter() - started)
            started = time.perf_counter()


@torch.no_grad()
def replace_one(
    network: MixedNetwork,
    wanted: Mapping[Slot, list[Candidate]],
    ids: Tensor,
    batch: int,
    advance: Callable[[int], None] = lambda candidates: None,
) -> Iterator[tuple[Slot, dict[str, np.ndarray]]]:
    """KL of each sequence of `ids` with each candidate swapped in, slot by slot, by label."""
    chain = network.teacher
    rotary, state = chain.context(ids), chain.embed_tokens(ids)
    divergence = ReferenceKl(final_hidden(chain, chain.run(state, rotary)), chain.head)
    last = max(chain.slot_ids.index(slot) for slot in wanted)
    for k, slot in enumerate(chain.slot_ids[: last + 1]):
        module = chain.slot(k)
        if slot in wanted:
            prefix, columns = _Prefix(state, module.normed(state)), {}
            for candidate in wanted[slot]:
                swapped = _swap(network, k, prefix, candidate.spec, rotary, batch)
                columns[candidate.spec.label] = divergence(swapped).double().cpu().numpy()
                advance(1)
            yield slot, columns
        state = module(state, rotary)


def _swap(
    network: MixedNetwork,
    k: int,
    prefix: _Prefix,
    spec: BlockSpec,
    rotary: BlockContext,
    batch: int,
) -> Tensor:
    """Input of the head [sequences, tokens, hidden] with the block `spec` in slot k."""
    chain, pieces = network.teacher, []
    for i in range(0, len(prefix.state), batch):
        rows = slice(i, i + batch)
        part = BlockContext(rotary.cos[rows], rotary.sin[rows], rotary.mask)
        state = prefix.state[rows]
        state = state + network.update(k, spec, prefix.normed[rows], part).to(state.dtype)
        pieces.append(final_hidden(chain, chain.run(state, part, start=k + 1)))
    return torch.cat(pieces)


def store_scores(
    context: PassContext, slot: Slot, key: str, columns: Mapping[str, np.ndarray], seconds: float
) -> None:
    """The unit of a slot: per-sequence scores by label."""
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    context.run.store(
        f"score/{slot.id}",
        key,
        {f"scores/{slot.id}.parquet": lambda path: pq.write_table(table, path)},
        {"means": {name: float(np.nanmean(values)) for name, values in columns.items()}},
        seconds,
    )
