"""Drafts: the closed form of every candidate, which pruning judges and building goes on from."""

from __future__ import annotations

import time
from collections.abc import Iterable

from nas.blocks import Built
from nas.ir import Candidate, Slot
from nas.passes._context import PassContext
from nas.passes.activations import slot_activations
from nas.passes.build import block_writer, closed_forms, read_block
from nas.run import Writer, content_key


class Drafts:
    """The closed forms of a run's candidates, on disk; called with one, its block, or None where it
    is not there as it was written: whoever asks makes it anew."""

    def __init__(self, context: PassContext) -> None:
        self._context = context
        config = context.config.build
        self._shared = (context.data_key, config.tokens, config.held_out_fraction, config.ridge)

    def __call__(self, candidate: Candidate) -> Built | None:
        record = self._context.run.intact(_unit(candidate), self.key(candidate))
        if record is None:
            return None
        shape, spec = self._context.shape, candidate.spec
        path = self._context.run.path(_file(candidate))
        return Built(spec, read_block(path, shape, candidate.slot, spec), **record.data)

    def key(self, candidate: Candidate) -> str:
        """Unit key: a closed form depends on the text, its slot and specification alone."""
        return content_key("draft", *self._shared, candidate)

    def error(self, candidate: Candidate) -> float:
        """Held-out error of a draft that has been made, relative to the teacher's power."""
        return float(self._context.run.require(_unit(candidate)).data["error"])

    def make(self, candidates: Iterable[Candidate]) -> None:
        """Every draft that is not there yet, from one walk over the teacher."""
        run, missing = self._context.run, dict[Slot, list[Candidate]]()
        for candidate in candidates:
            if run.fetch(_unit(candidate), self.key(candidate)) is None:
                missing.setdefault(candidate.slot, []).append(candidate)
        if not missing:
            return
        with self._context.progress.task("draft", sum(map(len, missing.values()))) as advance:
            for slot, data in slot_activations(self._context, missing):
                started = time.perf_counter()
                blocks = closed_forms(data, missing[slot])
                share = (time.perf_counter() - started) / len(blocks)
                for candidate, built in zip(missing[slot], blocks, strict=True):
                    self._store(candidate, built, share)
                advance(len(blocks))
                del data  # before the next slot's are made

    def _store(self, candidate: Candidate, built: Built, seconds: float) -> None:
        files: dict[str, Writer] = {}
        if built.block is not None:
            files[_file(candidate)] = block_writer(built.block)
        data = {"error": built.error, "sliced_error": built.sliced_error}
        self._context.run.store(_unit(candidate), self.key(candidate), files, data, seconds)


def _unit(candidate: Candidate) -> str:
    return f"prune/draft/{candidate.id}"


def _file(candidate: Candidate) -> str:
    return f"drafts/{candidate.slot.id}/{candidate.spec.label}.safetensors"
