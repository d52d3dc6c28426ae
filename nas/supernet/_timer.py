"""What a student takes in ONNX Runtime on this machine, beside its teacher."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.backends.onnx import export_encoder
from nas.backends.onnxruntime import OnnxEncoder
from nas.chain import EncoderChain
from nas.ir import Conditions
from nas.meters import interleaved


@dataclass(frozen=True)
class Pace:
    """Median milliseconds of one pass, and how much faster than the teacher in the same minutes."""

    latency_ms: float
    speedup: float


class EncoderTimer:
    """Exports encoders and times a pass over `batch` texts of `tokens` tokens.

    The teacher runs in turns with every student: the speed-up is the median over rounds of their
    ratio, so that a machine which is slow for a while is slow for both.
    """

    def __init__(
        self,
        teacher: EncoderChain,
        *,
        batch: int = 8,
        tokens: int = 64,
        threads: int | None = None,
        repeats: int = 15,
    ) -> None:
        self._repeats = repeats
        rng = np.random.default_rng(0)
        self._ids = rng.integers(0, teacher.shape.vocab_size, (batch, tokens), dtype=np.int64)
        with tempfile.TemporaryDirectory() as folder:
            self._teacher = OnnxEncoder(export_encoder(teacher, Path(folder)).path, threads)

    @property
    def conditions(self) -> Conditions:
        """What the latencies depend on."""
        return self._teacher.conditions("prefill", *self._ids.shape)

    def time(self, student: EncoderChain) -> Pace:
        """Raises CapabilityError where ONNX Runtime or the exporter is missing."""
        with tempfile.TemporaryDirectory() as folder:
            path = export_encoder(student, Path(folder)).path
            network = OnnxEncoder(path, self._teacher.threads)
        both = {"teacher": self._teacher, "student": network}
        samples = interleaved(
            {name: _Pass(encoder, self._ids) for name, encoder in both.items()},
            self._repeats,
            warmup=2,
        )
        pairs = zip(samples["teacher"], samples["student"], strict=True)
        return Pace(
            latency_ms=statistics.median(samples["student"]),
            speedup=statistics.median(theirs / ours for theirs, ours in pairs),
        )


@dataclass(frozen=True)
class _Pass:
    """One pass over fixed ids; returns milliseconds."""

    encoder: OnnxEncoder
    ids: NDArray[np.int64]

    def __call__(self) -> float:
        start = time.perf_counter()
        self.encoder.run(self.ids)
        return 1e3 * (time.perf_counter() - start)
