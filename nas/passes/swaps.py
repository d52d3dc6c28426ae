"""Replace-one losses of single candidates, each a unit that any later question reuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from nas.errors import PassError
from nas.ir import Candidate
from nas.passes._context import PassContext
from nas.passes.score import SlotScorer, grouped
from nas.run import content_key
from nas.sensitivity import MixedNetwork


class Swaps:
    """Called with candidate ids: the KL of each in nats, its mean over the scoring text.

    `of` says what stands in the network, `keys` are candidate id -> key of that, and `network` is
    made when the first of them has to be run. `values`: what has been asked for so far,
    [score_sequences].
    """

    def __init__(
        self,
        context: PassContext,
        of: Literal["block", "draft"],
        candidates: Iterable[Candidate],
        keys: Mapping[str, str],
        network: Callable[[], MixedNetwork],
    ) -> None:
        self._context, self._of, self._make, self._keys = context, of, network, keys
        self._by_id = {c.id: c for c in candidates}
        self._scorer: SlotScorer | None = None
        self.values: dict[str, np.ndarray] = {}

    def __call__(self, names: Sequence[str]) -> dict[str, float]:
        missing = [self._by_id[name] for name in names if not self._read(name)]
        if missing:
            self._run(missing)
        return {name: float(self.values[name].mean()) for name in names}

    def _read(self, name: str) -> bool:
        record = self._context.run.fetch(self._unit(name), self._key(name))
        if record is not None:
            self.values[name] = np.array(record.data["kl"])
        return record is not None

    def _unit(self, name: str) -> str:
        return f"swap/{self._of}/{name}"

    def _key(self, name: str) -> str:
        return content_key("swap", self._context.goal_key, self._keys[name])

    def _run(self, missing: Sequence[Candidate]) -> None:
        began = time.perf_counter()
        if self._scorer is None:
            ids, batch = self._context.text.score, self._context.config.score.batch_sequences
            self._scorer = SlotScorer(self._make(), ids, batch, folder=self._context.run.root)
        by_slot = grouped(missing)
        with self._context.progress.task("swap", len(missing)) as advance:
            for k, slot, state in self._scorer.states(by_slot):
                group = by_slot[slot]
                columns = self._scorer.kl(k, state, [c.spec for c in group])
                for candidate, values in zip(group, columns, strict=True):
                    seconds, began = time.perf_counter() - began, time.perf_counter()
                    self._store(candidate, values, seconds)
                    advance(1)

    def _store(self, candidate: Candidate, values: np.ndarray, seconds: float) -> None:
        name = candidate.id
        if not np.isfinite(values).all():
            raise PassError(f"{name} scores {values.tolist()}; its block is damaged")
        self._context.run.store(
            self._unit(name), self._key(name), data={"kl": values.tolist()}, seconds=seconds
        )
        self.values[name] = values
