"""Build the library: closed forms, then blockwise local distillation, slot by slot.

The teacher is walked once. At each slot its normed input and its output are held for all tokens;
every candidate of the slot is made from these activations alone (decoupled, arXiv 2411.19146,
section 3.1), and they are dropped when it is done. Memory does not grow with depth. A slot is one
job of the run's executor: its activations go to whoever works on it.

Where training has rungs, candidates of a slot stop once they can no longer enter a solution. They
keep the weights that they have then; `units/rungs/<slot>.json` and their meta.json say why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas.blocks import KINDS, Block, BlockContext, Built, SlotData, build_block
from nas.config import BuildConfig
from nas.executors import Job, Outcome
from nas.ir import (
    BlockSpec,
    Candidate,
    ChainShape,
    KeepTeacher,
    Slot,
    SlotKind,
    in_float,
    parse_shape,
)
from nas.passes._context import PassContext
from nas.passes._work import job_memory
from nas.passes.activations import slot_activations
from nas.passes.distill_blocks import Stop, Trained, train_blocks
from nas.passes.quantise import (
    finished_quantised,
    float_sources,
    is_quantised,
    quantised,
)
from nas.pruning import RungJudge, SlotOutlook, rung_ends
from nas.run import UnitRecord, Writer, content_key, json_writer


@dataclass(frozen=True)
class BlockRecord:
    """What meta.json says of a block; errors are held-out MSE over the teacher's own power.
    `rung_errors`, `stopped`, `rung_steps` and `steps` are as in `Trained`."""

    sliced_error: float
    initial_error: float
    trained_error: float | None
    kept: str
    tokens: int
    seconds: float
    rung_errors: list[float] = field(default_factory=list)
    stopped: dict[str, Any] | None = None
    rung_steps: list[int] = field(default_factory=list)
    steps: int = 0


FindDraft = Callable[[Candidate], Built | None]
"""Finds the closed form of a candidate where it has been made before."""


Outlooks = Mapping[str, SlotOutlook]
"""Slot -> what its candidates are judged by at the rungs of training."""


def build(
    context: PassContext,
    candidates: Iterable[Candidate],
    extra: Iterable[Candidate] = (),
    drafts: FindDraft | None = None,
    outlooks: Outlooks | None = None,
    *,
    curves: bool = False,
) -> dict[str, str]:
    """Make every block that is not there yet; returns candidate id -> unit key.

    A block that could not be made is left out, where the run goes on without it. `extra` are blocks
    that only baselines need; their units belong to the pass solve. Blocks are the same with and
    without `drafts`. Those of slots with an outlook may stop at a rung; what is finished already
    stays so. With `curves` a finished block that does not tell its errors at the present rungs is
    made again.
    """
    wanted = tuple(candidates)
    units = {c: f"build/{c.id}" for c in wanted} | {c: f"solve/uniform/{c.id}" for c in extra}
    rungs = _Rungs(context, wanted, outlooks or {})
    found: dict[str, str] = {}
    missing: dict[Slot, list[Candidate]] = {}
    for candidate, unit in units.items():
        record = rungs.fetch(candidate, unit)
        if record is None or (curves and _lacks_curve(context, record)):
            missing.setdefault(candidate.slot, []).append(candidate)
        else:
            found[candidate.id] = record.key
    return found | (_make(context, missing, units, drafts, rungs) if missing else {})


def block_keys(context: PassContext, candidates: Iterable[Candidate]) -> dict[str, str]:
    """Unit key of each candidate that learnt all the way. Such a block depends on its own slot and
    specification alone."""
    config = context.config.build.model_dump(mode="json", exclude={"rungs", "rung_factor"})
    shared = (context.data_key, config, context.config.seed)
    return {c.id: content_key("build", *shared, c) for c in candidates}


def _stopped_key(finished: str, stopped: Mapping[str, Any] | None) -> str:
    """Key of a block that would have been `finished`; the reason is no part of what it is."""
    if stopped is None:
        return finished
    return content_key("stopped", finished, stopped["step"], stopped["of"])


def _lacks_curve(context: PassContext, record: UnitRecord) -> bool:
    """Whether a block that was trained tells no errors at the rungs of the present schedule: it
    learnt without rungs, or with others."""
    config, known = context.config.build, record.data
    if config.rungs == 1 or known.get("trained_error") is None:
        return False
    if not known.get("steps"):
        return True
    *pauses, _ = rung_ends(known["steps"], config.rungs, config.rung_factor)
    return bool(known["rung_steps"] != pauses)


class _Rungs:
    """Which blocks stop where: decided once for a slot and what it is judged by, then kept."""

    def __init__(
        self, context: PassContext, candidates: Sequence[Candidate], outlooks: Outlooks
    ) -> None:
        self._context, self._outlooks = context, outlooks
        self._of_slot: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            self._of_slot.setdefault(candidate.slot.id, []).append(candidate)
        self._decided: dict[str, dict[str, Any] | None] = {}

    def fetch(self, candidate: Candidate, unit: str) -> UnitRecord | None:
        """The record of a block that is there: finished, or stopped as it should."""
        run, finished = self._context.run, block_keys(self._context, [candidate])[candidate.id]
        there = run.record(unit)
        if there is None or there.key == finished:
            return run.fetch(unit, finished)
        stopped = there.data.get("stopped") if isinstance(there.data, dict) else None
        key = _stopped_key(finished, stopped)
        if there.key != key or not self._still_holds(candidate):
            return run.fetch(unit, finished)
        return run.fetch(unit, key)

    def _still_holds(self, candidate: Candidate) -> bool:
        """Whether the decision to stop stands. Where building is closed, what is there is taken."""
        if "build" in self._context.run.closed:
            return True
        return candidate.spec.label in (self.decided(candidate.slot.id) or {})

    def decided(self, slot: str) -> dict[str, Any] | None:
        """Label -> where and why it stopped, of a slot that has been judged; None if it has not."""
        if slot not in self._decided:
            record = self._context.run.fetch(f"rungs/{slot}", self._key(slot))
            self._decided[slot] = None if record is None else record.data
        return self._decided[slot]

    def _key(self, slot: str) -> str:
        config = self._context.config.build
        keys = block_keys(self._context, self._of_slot.get(slot, []))
        return content_key("rungs", keys, self._outlooks.get(slot), config)

    def facts(self, slot: str) -> dict[str, Any] | None:
        """For the job of a slot: the decision, or what it hangs on."""
        if slot not in self._outlooks or self._context.config.build.rungs == 1:
            return None
        decided = self.decided(slot)
        if decided is not None:
            return {"decided": decided}
        return {"outlook": self._outlooks[slot].model_dump(mode="json")}

    def keep(self, slot: str, stopped: Mapping[str, Any]) -> None:
        """Note the decision on a slot, after its blocks are stored."""
        if slot in self._outlooks and self.decided(slot) is None:
            self._context.run.store(f"rungs/{slot}", self._key(slot), data=dict(stopped))
            self._decided[slot] = dict(stopped)


def _make(
    context: PassContext,
    missing: Mapping[Slot, list[Candidate]],
    units: Mapping[Candidate, str],
    drafts: FindDraft | None,
    rungs: _Rungs,
) -> dict[str, str]:
    """Make and store the missing blocks; unit keys of those that could be made."""
    by_name, made = {slot.id: group for slot, group in missing.items()}, dict[str, str]()
    total = sum(map(len, missing.values()))
    work = context.work(_jobs(context, missing, drafts, rungs), len(missing))
    with context.progress.task("build", total) as advance, contextlib.closing(work):
        for done in work:
            group = by_name[done.name]
            if done.error is not None:
                context.fail([units[c] for c in group], done)
            else:
                made |= _store(context, group, units, done)
                rungs.keep(done.name, _stopped_of(group, done))
            advance(len(group))
            del done  # its blocks, before the next slot's are made
    _say_who_stopped(context, missing, rungs)
    return made


def _stopped_of(group: Sequence[Candidate], done: Outcome) -> dict[str, Any]:
    found = {c.spec.label: f["stopped"] for c, f in zip(group, done.facts["blocks"], strict=True)}
    return {label: stopped for label, stopped in found.items() if stopped is not None}


def _say_who_stopped(
    context: PassContext, missing: Mapping[Slot, list[Candidate]], rungs: _Rungs
) -> None:
    stopped = [
        known[c.spec.label]
        for slot, group in missing.items()
        if (known := rungs.decided(slot.id))
        for c in group
        if c.spec.label in known
    ]
    if stopped:
        saved = sum(1 - s["step"] / s["of"] for s in stopped) / sum(map(len, missing.values()))
        context.progress.say(
            f"{len(stopped)} of {sum(map(len, missing.values()))} blocks stopped at a rung, "
            f"{saved:.0%} of the training saved"
        )


def _jobs(
    context: PassContext,
    missing: Mapping[Slot, list[Candidate]],
    drafts: FindDraft | None,
    rungs: _Rungs,
) -> Iterator[Job]:
    """A job a slot, drawn while the teacher is walked: it runs once, whoever does the jobs."""
    memory = job_memory(context.config, context.shape).build_mib
    for slot, data in slot_activations(context, missing):
        tensors, found, finished = _arrays(data), dict[str, Any](), dict[str, Any]()
        sources = float_sources(context.shape, missing[slot])
        for candidate in (*missing[slot], *sources):
            label, draft = candidate.spec.label, drafts(candidate) if drafts else None
            if draft is not None:
                tensors |= _named(f"draft/{label}", draft.block)
                found[label] = {"error": draft.error, "sliced_error": draft.sliced_error}
        for candidate in sources:
            record = _finished(context, candidate)
            if record is not None:
                label = candidate.spec.label
                block = load_block(context.run.root, context.shape, slot, candidate.spec)
                tensors |= _named(f"finished/{label}", block)
                finished[label] = {"sliced_error": record["sliced_error"]}
        facts = {
            "shape": data.shape.model_dump(mode="json"),
            "causal": data.context.causal,
            "candidates": [c.model_dump(mode="json") for c in missing[slot]],
            "held_out": data.held_out,
            "config": context.config.build.model_dump(mode="json"),
            "seed": context.config.seed,
            "drafts": found,
            "finished": finished,
            "rungs": rungs.facts(slot.id),
        }
        device = str(data.x.device)
        del data  # the activations go with the job
        yield Job(slot.id, f"{__name__}:build_slot", tensors, facts, device, memory)
        del tensors


def build_slot(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], resident: object
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The job of a slot: weights as `<label>/<parameter>`, and what is known of each block."""
    config = BuildConfig.model_validate(facts["config"])
    candidates = [Candidate.model_validate(c) for c in facts["candidates"]]
    data = _slot_data(tensors, facts, candidates[0].slot, config)

    def given(group: str, candidate: Candidate, **known: float) -> Built:
        prefix, spec = f"{group}/{candidate.spec.label}", candidate.spec
        return Built(spec, _filled(tensors, prefix, data.shape, data.slot_kind, spec), **known)

    def draft(candidate: Candidate) -> Built | None:
        known = facts["drafts"].get(candidate.spec.label)
        return None if known is None else given("draft", candidate, **known)

    sources: dict[BlockSpec, Built] = {}
    wanted = [c for c in candidates if not is_quantised(c)]
    for candidate in float_sources(data.shape, candidates):
        known = facts["finished"].get(candidate.spec.label)
        if known is None:
            wanted.append(candidate)
        else:
            sources[candidate.spec] = given("finished", candidate, error=0.0, **known)
    stop = _stops(facts["rungs"], candidates)
    made = train_blocks(data, closed_forms(data, wanted, draft), config, facts["seed"], *stop)
    by_spec = {trained.built.spec: trained for trained in made}
    sources |= {spec: trained.built for spec, trained in by_spec.items()}
    results = [
        _quantised(data, c.spec, sources, by_spec) if is_quantised(c) else by_spec[c.spec]
        for c in candidates
    ]
    found: dict[str, Tensor] = {}
    for trained in results:
        found |= _named(trained.built.spec.label, trained.built.block)
    tokens = len(data.x) * data.tokens_a_sample
    return found, {"tokens": tokens, "blocks": [_record(t) for t in results]}


def _stops(facts: Mapping[str, Any] | None, candidates: Sequence[Candidate]) -> tuple[Stop, ...]:
    """Who stops at a rung, where a slot has an outlook. A structure goes on while any candidate
    made of it could still be chosen."""
    if facts is None:
        return ()
    made_of: dict[BlockSpec, list[str]] = {}
    for candidate in candidates:
        made_of.setdefault(in_float(candidate.spec), []).append(candidate.spec.label)
    judge = RungJudge(SlotOutlook.model_validate(facts["outlook"])) if "outlook" in facts else None

    def stop(rung: int, step: int, left: Mapping[BlockSpec, float]) -> dict[BlockSpec, str]:
        if judge is not None:
            shares = {name: share for s, share in left.items() for name in made_of.get(s, [])}
            reasons = judge.after(rung, shares)
        else:
            decided = facts["decided"].items()
            reasons = {name: known["reason"] for name, known in decided if known["step"] == step}
        return {
            spec: reasons[names[0]]
            for spec in left
            if (names := made_of.get(spec)) and all(name in reasons for name in names)
        }

    return (stop,)


def _quantised(
    data: SlotData,
    spec: BlockSpec,
    sources: Mapping[BlockSpec, Built],
    trained: Mapping[BlockSpec, Trained],
) -> Trained:
    """As `finished_quantised`; it has stopped where its structure has."""
    found, source = finished_quantised(data, spec, sources), trained.get(in_float(spec))
    return found if source is None else replace(found, stopped=source.stopped)


def _finished(context: PassContext, candidate: Candidate) -> Any:
    """What is known of a block that lies in the library already; None where it does not."""
    key = block_keys(context, [candidate])[candidate.id]
    for unit in (f"build/{candidate.id}", f"solve/uniform/{candidate.id}"):
        record = context.run.fetch(unit, key)
        if record is not None:
            return record.data
    return None


def _arrays(data: SlotData) -> dict[str, Tensor]:
    """All of a slot's data that is arrays; `_slot_data` puts it together again."""
    context = data.context
    parts = {"cos": context.cos, "sin": context.sin, "mask": context.mask}
    parts |= {"emphasis": data.emphasis, "gain": data.gain}
    arrays = {"x": data.x, "y": data.y} | {n: p for n, p in parts.items() if p is not None}
    return arrays | _named("teacher", data.teacher)


def _slot_data(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], slot: Slot, config: BuildConfig
) -> SlotData:
    shape = parse_shape(facts["shape"])
    teacher = _filled(tensors, "teacher", shape, slot.kind, shape.resolve(slot, KeepTeacher()))
    assert teacher is not None
    return SlotData(
        shape=shape,
        slot_kind=slot.kind,
        teacher=teacher,
        x=tensors["x"],
        y=tensors["y"],
        context=BlockContext(
            tensors.get("cos"), tensors.get("sin"), tensors.get("mask"), facts["causal"]
        ),
        held_out=facts["held_out"],
        ridge=config.ridge,
        emphasis=tensors.get("emphasis"),
        gain=tensors.get("gain"),
    )


def _named(prefix: str, block: Block | None) -> dict[str, Tensor]:
    state = {} if block is None else block.state_dict()
    return {f"{prefix}/{name}": value.detach() for name, value in state.items()}


def _filled(
    tensors: Mapping[str, Tensor],
    prefix: str,
    shape: ChainShape,
    slot_kind: SlotKind,
    spec: BlockSpec,
) -> Block | None:
    """The block whose weights stand under `prefix`; None for a skip, which has none."""
    with torch.device("meta"):
        block = build_block(shape, slot_kind, spec)
    if block is not None:
        own = {name: tensors[f"{prefix}/{name}"] for name in block.state_dict()}
        block.load_state_dict(own, assign=True)
        block.eval().requires_grad_(False)
    return block


def _record(trained: Trained) -> dict[str, Any]:
    return {
        "sliced_error": trained.built.sliced_error,
        "initial_error": trained.initial_error,
        "trained_error": trained.trained_error,
        "kept": trained.kept,
        "rung_errors": list(trained.rung_errors),
        "stopped": None if trained.stopped is None else vars(trained.stopped),
        "rung_steps": list(trained.rung_steps),
        "steps": trained.steps,
    }


def closed_forms(
    data: SlotData, candidates: Sequence[Candidate], drafts: FindDraft | None = None
) -> list[Built]:
    """Closed forms of all `candidates` at one slot, in their order; drafts are taken as found.
    Those that round are made from the closed forms of their structure."""
    made = {c: block for c in candidates if (block := drafts and drafts(c))}
    wanted = [*candidates, *float_sources(data.shape, [c for c in candidates if c not in made])]
    floats = [c for c in wanted if c not in made and not is_quantised(c)]
    for kind in dict.fromkeys(c.spec.kind for c in floats):
        same = [c for c in floats if c.spec.kind == kind]
        built = KINDS[kind].initialise(data, tuple(c.spec for c in same))
        by_spec = {b.spec: b for b in built}
        made |= {c: by_spec[c.spec] for c in same}
    sources = {c.spec: built for c, built in made.items()}
    for candidate in candidates:
        if candidate not in made:
            made[candidate] = quantised(data, candidate.spec, sources)
    return [made[c] for c in candidates]


def load_block(
    run_folder: Path, shape: ChainShape, slot: Slot, spec: BlockSpec, device: str = "cpu"
) -> Block | None:
    """A block of the library as a module; None for a skip."""
    path = run_folder / "library" / slot.id / spec.label / "block.safetensors"
    return read_block(path, shape, slot, spec, device)


def read_block(
    path: Path, shape: ChainShape, slot: Slot, spec: BlockSpec, device: str = "cpu"
) -> Block | None:
    """The block whose weights lie at `path`; None for a skip, which has none."""
    with torch.device("meta"):  # its weights are read, not made
        block = build_block(shape, slot.kind, spec)
    if block is not None:
        block.load_state_dict(load_file(path, device=device), assign=True)
        block.eval().requires_grad_(False)
    return block


def _store(
    context: PassContext,
    group: list[Candidate],
    units: Mapping[Candidate, str],
    done: Outcome,
) -> dict[str, str]:
    """Store what a job made; candidate id -> unit key."""
    share, keys = done.seconds / len(group), block_keys(context, group)
    for candidate, facts in zip(group, done.facts["blocks"], strict=True):
        record = BlockRecord(**facts, tokens=done.facts["tokens"], seconds=share)
        keys[candidate.id] = _stopped_key(keys[candidate.id], record.stopped)
        prefix = f"{candidate.spec.label}/"
        folder = f"library/{candidate.slot.id}/{candidate.spec.label}"
        meta = {"candidate": candidate.model_dump(mode="json"), **vars(record)}
        files = {f"{folder}/meta.json": json_writer(meta)}
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in done.tensors.items()
            if name.startswith(prefix)
        }
        if state:
            files[f"{folder}/block.safetensors"] = _weights_writer(state)
        context.run.store(units[candidate], keys[candidate.id], files, vars(record), share)
    return keys


def block_writer(block: Block) -> Writer:
    """A writer of a block's weights."""
    return _weights_writer(block.state_dict())


def _weights_writer(state: Mapping[str, Tensor]) -> Writer:
    whole = {name: tensor.contiguous() for name, tensor in state.items()}
    return lambda path: save_file(whole, path)
