"""Score: what swapping one block into the teacher costs the whole network.

KL(teacher || teacher with the block swapped), for each scoring sequence (replace-1-block, arXiv
2411.19146, section 4.1). `replace_one` runs a candidate from its own slot on: the prefix is the
teacher's and is walked once for all. `one_backward` takes the second-order expansion of the same KL
about the teacher (`nas.sensitivity`), which runs no candidate beyond its own block. `focused` is
both (`nas.passes.focus`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from nas._numerics import compute_dtype
from nas.blocks import BlockContext
from nas.chain import Chain
from nas.config import TeacherConfig
from nas.executors import Job, Resident
from nas.ir import Architecture, BlockSpec, Candidate, Slot, parse_spec
from nas.objectives import objective_of
from nas.passes._context import PassContext
from nas.passes._work import job_memory
from nas.passes.build import load_block
from nas.run import content_key
from nas.sensitivity import MixedNetwork, expand
from nas.streaming import StreamedChain, mapped_like


class _Prefix(NamedTuple):
    """The teacher up to a slot: residual state before it, and the slot's normed input."""

    state: Tensor
    normed: Tensor


def score(
    context: PassContext, candidates: Iterable[Candidate], block_keys: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Per-sequence scores of every candidate: id -> KL in nats, [score_sequences].

    Candidates of a slot that could not be scored are left out, where the run goes on without them.
    """
    by_slot = grouped(candidates)
    keys = {slot: slot_key(context, group, block_keys) for slot, group in by_slot.items()}
    missing = [s for s in by_slot if not context.run.fetch(f"score/{s.id}", keys[s])]
    if missing:
        method = {"replace_one": _replace_one, "one_backward": _one_backward}
        lost = method[context.config.score.method](context, {s: by_slot[s] for s in missing}, keys)
        by_slot = {slot: group for slot, group in by_slot.items() if slot not in lost}
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
    draws = (config.draws,) if config.method != "replace_one" else ()
    return content_key("score", context.goal_key, config.method, keys, *draws)


def read_scores(path: Path, slot: Slot) -> dict[str, np.ndarray]:
    """Columns of a slot's parquet file by candidate id."""
    table = pq.read_table(path)
    return {f"{slot.id}/{name}": table[name].to_numpy() for name in table.column_names}


def scoring_copy(chain: Chain) -> Chain:
    """The chain in the processor's fast format, its residual stream kept in float32."""
    return chain.in_dtype(compute_dtype(str(chain.device)))


def library_network(context: PassContext) -> MixedNetwork:
    """The run's teacher and library in the processor's fast format."""
    return _network(context.teacher.chain, context.run.root, context.metric())


def _network(teacher: Chain, root: Path, metric: Tensor | None) -> MixedNetwork:
    chain = scoring_copy(teacher)
    device, shape = str(chain.device), chain.shape
    return MixedNetwork(
        chain,
        lambda slot, spec: load_block(root, shape, slot, spec, device),
        objective_of(chain, metric),
    )


def one_backward(
    context: PassContext, wanted: Mapping[Slot, list[Candidate]]
) -> dict[str, np.ndarray]:
    """Second-order scores of library blocks, all at once: id -> KL in nats, [score_sequences]."""
    network = library_network(context)
    index = {slot: k for k, slot in enumerate(network.teacher.slot_ids)}
    ids = context.text.score.to(network.teacher.device)
    with context.progress.task("score", len(ids)) as advance:
        expansion = expand(
            network,
            Architecture(),
            {index[slot]: [c.spec for c in group] for slot, group in wanted.items()},
            ids,
            draws=context.config.score.draws,
            seed=context.config.seed,
            advance=advance,
            folder=context.run.root,
        )
    return dict(zip(expansion.names, expansion.single().T, strict=True))


def _one_backward(
    context: PassContext, wanted: Mapping[Slot, list[Candidate]], keys: Mapping[Slot, str]
) -> set[Slot]:
    started, columns = time.perf_counter(), one_backward(context, wanted)
    share = (time.perf_counter() - started) / len(wanted)
    for slot, group in wanted.items():
        store_scores(context, slot, keys[slot], {c.spec.label: columns[c.id] for c in group}, share)
    return set()


def _replace_one(
    context: PassContext, wanted: Mapping[Slot, list[Candidate]], keys: Mapping[Slot, str]
) -> set[Slot]:
    """Score and store; the slots that could not be scored."""
    batch = context.config.score.batch_sequences
    scorer = SlotScorer(
        library_network(context), context.text.score, batch, folder=context.run.root
    )
    by_name, lost = {slot.id: slot for slot in wanted}, set[Slot]()
    total = sum(map(len, wanted.values()))
    streams = isinstance(context.teacher.chain, StreamedChain)
    memory = job_memory(context.config, context.shape, streams=streams).score_mib
    work = context.work(_jobs(scorer, wanted, memory), len(wanted), _resident(context, scorer))
    with context.progress.task("score", total) as advance, contextlib.closing(work):
        for done in work:
            slot = by_name[done.name]
            if done.error is not None:
                context.fail([f"score/{slot.id}"], done)
                lost.add(slot)
            else:
                columns = {name: tensor.numpy() for name, tensor in done.tensors.items()}
                ordered = {c.spec.label: columns[c.spec.label] for c in wanted[slot]}
                store_scores(context, slot, keys[slot], ordered, done.seconds)
            advance(len(wanted[slot]))
    return lost


class SlotScorer:
    """What every slot's scores need: the network, and the teacher's last state on the text.

    `reference` [sequences, tokens, hidden] is the teacher's last state, made where not given. With
    a streamed teacher, states that wait for a slot's weights are in mapped files of `folder`.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: MixedNetwork,
        ids: Tensor,
        batch: int,
        reference: Tensor | None = None,
        folder: Path | None = None,
    ) -> None:
        chain = network.teacher
        self.network, self.batch, self.folder = network, batch, folder
        self.ids = ids.to(chain.device)
        self.rotary = chain.context(self.ids)
        if reference is None:
            state = chain.run(chain.embed_tokens(self.ids), self.rotary)
            reference = chain.exact_hidden(state)
        self.reference = reference
        self._divergence = network.objective.divergence(reference)

    @torch.no_grad()
    def states(self, wanted: Mapping[Slot, object]) -> Iterator[tuple[int, Slot, Tensor]]:
        """The teacher's residual stream before each wanted slot, with the slot's number."""
        chain = self.network.teacher
        state = chain.embed_tokens(self.ids)
        last = max(chain.slot_ids.index(slot) for slot in wanted)
        for k, slot in enumerate(chain.slot_ids[: last + 1]):
            if slot in wanted:
                yield k, slot, state
            state = chain.slot(k)(state, self.rotary)

    @torch.no_grad()
    def kl(self, k: int, state: Tensor, specs: Sequence[BlockSpec]) -> Iterator[np.ndarray]:
        """KL of each sequence with each block swapped into slot k; `state` is what comes before."""
        prefix = _Prefix(state, self.network.teacher.slot(k).normed(state))
        if isinstance(self.network.teacher, StreamedChain):
            found = self._side_by_side(k, prefix, specs)
        else:
            found = (
                _swap(self.network, k, prefix, spec, self.rotary, self.batch) for spec in specs
            )
        for swapped in found:
            yield self._divergence(swapped).double().cpu().numpy()

    def _side_by_side(
        self, k: int, prefix: _Prefix, specs: Sequence[BlockSpec]
    ) -> Iterator[Tensor]:
        """As `_swap` of each of `specs`; all of them pass a slot before the next one is read."""
        network, chain = self.network, self.network.teacher
        states = [mapped_like(prefix.state, self.folder) for _ in specs]
        for spec, swapped in zip(specs, states, strict=True):
            for rows, part in self._batches():
                update = network.update(k, spec, prefix.normed[rows], part)
                summed = prefix.state[rows] + update.to(swapped.dtype)
                swapped[rows] = chain.slot(k).settle(summed)
        for slot in map(chain.slot, range(k + 1, len(chain.slots))):
            for swapped in states:
                for rows, part in self._batches():
                    swapped[rows] = slot(swapped[rows], part)
        for swapped in states:
            yield torch.cat([chain.exact_hidden(swapped[rows]) for rows, _ in self._batches()])

    def _batches(self) -> Iterator[tuple[slice, BlockContext]]:
        for i in range(0, len(self.ids), self.batch):
            rows = slice(i, i + self.batch)
            yield rows, self.rotary.rows(rows)


def replace_one(
    network: MixedNetwork,
    wanted: Mapping[Slot, list[Candidate]],
    ids: Tensor,
    batch: int,
    advance: Callable[[int], None] = lambda candidates: None,
    folder: Path | None = None,
) -> Iterator[tuple[Slot, dict[str, np.ndarray]]]:
    """KL of each sequence of `ids` with each candidate swapped in, slot by slot, by label.
    `folder`: as of `SlotScorer`."""
    scorer = SlotScorer(network, ids, batch, folder=folder)
    for k, slot, state in scorer.states(wanted):
        specs, columns = [c.spec for c in wanted[slot]], {}
        for spec, values in zip(specs, scorer.kl(k, state, specs), strict=True):
            columns[spec.label] = values
            advance(1)
        yield slot, columns


def _jobs(
    scorer: SlotScorer, wanted: Mapping[Slot, list[Candidate]], memory_mib: float
) -> Iterator[Job]:
    """A job a slot, drawn while the teacher is walked."""
    device = str(scorer.ids.device)
    for k, slot, state in scorer.states(wanted):
        facts = {"k": k, "specs": [c.spec.model_dump(mode="json") for c in wanted[slot]]}
        yield Job(slot.id, f"{__name__}:score_slot", {"state": state}, facts, device, memory_mib)


def score_slot(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], scorer: SlotScorer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The job of a slot: scores [sequences] in float64 by label."""
    specs = [parse_spec(spec) for spec in facts["specs"]]
    columns = scorer.kl(facts["k"], tensors["state"], specs)
    named = zip(specs, columns, strict=True)
    return {spec.label: torch.from_numpy(values) for spec, values in named}, {}


def _resident(context: PassContext, scorer: SlotScorer) -> Resident:
    facts = {
        "teacher": context.config.teacher.model_dump(mode="json"),
        "root": str(context.run.root.resolve()),
        "batch": scorer.batch,
    }
    tensors = {"ids": scorer.ids, "reference": scorer.reference}
    metric = context.metric()
    if metric is not None:
        tensors["metric"] = metric
    return Resident(f"{__name__}:load_scorer", tensors, facts, lambda: scorer)


def load_scorer(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> SlotScorer:
    """The scorer of another process: teacher and library are read, the teacher is not run again."""
    from nas.teachers import load_teacher

    teacher = load_teacher(TeacherConfig.model_validate(facts["teacher"]))
    network = _network(teacher.chain, Path(facts["root"]), tensors.get("metric"))
    reference = tensors["reference"].to(network.teacher.device)
    root = Path(facts["root"])
    return SlotScorer(network, tensors["ids"], facts["batch"], reference, root)


def _swap(
    network: MixedNetwork,
    k: int,
    prefix: _Prefix,
    spec: BlockSpec,
    rotary: BlockContext,
    batch: int,
) -> Tensor:
    """Last state [sequences, tokens, hidden] with the block `spec` in slot k."""
    chain, pieces = network.teacher, []
    for i in range(0, len(prefix.state), batch):
        rows = slice(i, i + batch)
        part, state = rotary.rows(rows), prefix.state[rows]
        state = state + network.update(k, spec, prefix.normed[rows], part).to(state.dtype)
        state = chain.slot(k).settle(state)
        pieces.append(chain.exact_hidden(chain.run(state, part, start=k + 1)))
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
