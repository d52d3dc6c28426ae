"""Latencies of real blocks in ONNX Runtime on the CPU of this machine."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nas._imports import require
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import ChainShape, Conditions, Latency, Phase
from nas.meters._base import Meter, Request
from nas.meters._caches import CacheEvictor
from nas.meters._feeds import Feeds
from nas.meters._session import TimedSession
from nas.meters._timing import interleaved, round_paces, settled

_BYTES = {"float32": 4, "float16": 2}
_COPIES = 4
# A decode run must be long beside the clock's and the scheduler's noise: enough copies of a small
# block that this much is read from memory, within reason.
_DECODE_BYTES = 24 * 2**20
_MOST_COPIES = 16


class OnnxRuntimeMeter(Meter):
    """Each distinct block once, from stacks of N and 2N copies: (t(2N) - t(N)) / N.

    The slope leaves out what a run costs whatever is in it. All stacks are timed in turn, round by
    round, so that a drift of the machine hits them alike; each round is one sample of each block,
    and the pace of each round is known by all that ran in it.
    Embedding and head, which stand alone in a network too, are timed directly. A short prefill runs
    once unheard each time, so that it does not share its processors. Before a decode run
    the caches are emptied, since a network's weights do not survive in them from token to token,
    and those of a stack might.
    """

    def __init__(self, config: TargetConfig, shape: ChainShape) -> None:
        super().__init__(config, shape)
        if config.dtype not in _BYTES:
            raise ConfigError(
                f"target.dtype: ONNX Runtime on a CPU runs {' and '.join(_BYTES)}, "
                f"not {config.dtype}"
            )
        self.threads = config.threads or _backend().default_threads()

    def conditions(self, phase: Phase) -> Conditions:
        """The same as those of an exported decoder's timing, which predictions stand beside."""
        return Conditions(
            phase=phase,
            batch=self.config.batch,
            prompt_tokens=self.config.prompt_tokens,
            dtype=self.config.dtype,
            threads=self.threads,
            runtime="onnxruntime",
            runtime_version=require("onnxruntime", extra="cpu").__version__,
            device=_backend().cpu_name(),
        )

    def measure(self, requests: Sequence[Request]) -> list[Latency]:
        if not requests:
            return []
        with self.runs(requests) as runs:
            samples = interleaved(runs, self.config.repeats, warmup=2)
        return self.latencies(requests, samples)

    @contextlib.contextmanager
    def runs(self, requests: Sequence[Request]) -> Iterator[dict[str, Callable[[], float]]]:
        """All that is to be timed for `requests`, by name: once in each round of `interleaved`."""
        with tempfile.TemporaryDirectory(prefix="nas-meter-") as folder:
            yield self._runs(requests, Path(folder))

    def latencies(
        self, requests: Sequence[Request], samples: Mapping[str, Sequence[float]]
    ) -> list[Latency]:
        """One latency a request from the samples of `runs`, and of what ran beside them.

        The pace of a round is taken by phase: arithmetic bounds prefill, memory decode.
        """
        paces = {
            phase: round_paces({n: s for n, s in samples.items() if n.endswith(f" {phase}")})
            for phase in {request.phase for request in requests}
        }
        return [self._latency(request, samples, paces[request.phase]) for request in requests]

    def _runs(self, requests: Sequence[Request], folder: Path) -> dict[str, Callable[[], float]]:
        """Every run to time, by name; the phases of a block share a session where they can."""
        feeds = Feeds(self.config, self.shape)
        evictor = CacheEvictor()
        sessions: dict[str, Any] = {}
        runs: dict[str, Callable[[], float]] = {}
        for request in requests:
            for copies in self._stacks(request):
                name, stack = _run_name(request, copies), stack_name(request, copies)
                if name in runs:
                    continue
                if stack not in sessions:
                    path = self._save(request, copies, folder / f"{len(sessions)}.onnx")
                    sessions[stack] = _backend().open_session(path, self.threads)
                run = TimedSession(sessions[stack], feeds.of(request, copies))
                runs[name] = evictor.before(run) if request.phase == "decode" else settled(run)
        return runs

    def _save(self, request: Request, copies: int, path: Path) -> Path:
        from nas.backends import onnx

        onnx.save_model(part_model(self.config, self.shape, request, copies), path)
        return path

    def _latency(
        self, request: Request, samples: Mapping[str, Sequence[float]], pace: Sequence[float]
    ) -> Latency:
        conditions = self.conditions(request.phase)
        stacks = self._stacks(request)
        series = [samples[_run_name(request, copies)] for copies in stacks]
        if len(series) == 1:
            return Latency.of(series[0], conditions, pace=pace)
        # Below zero there is noise alone.
        slopes = [max(0.0, long - short) / stacks[0] for short, long in zip(*series, strict=True)]
        return Latency.of(slopes, conditions, "slope", pace)

    def _stacks(self, request: Request) -> tuple[int, ...]:
        least = _DECODE_BYTES if request.phase == "decode" else 0
        return stack_copies(self.shape, request, self.config.dtype, least, _MOST_COPIES)


def stack_copies(
    shape: ChainShape, request: Request, dtype: str, least_bytes: int, most: int
) -> tuple[int, ...]:
    """N and 2N for a block, N copies of `least_bytes` of weights together and `most` at most; 1 for
    the parts outside the slots, which stand alone."""
    from nas.blocks import stored_bytes

    if request.block is None:
        return (1,)
    stored = stored_bytes(shape, *request.block, _BYTES[dtype])
    wanted = math.ceil(least_bytes / max(1, stored))
    copies = min(max(_COPIES, wanted), most)
    return (copies, 2 * copies)


def part_model(
    config: TargetConfig, shape: ChainShape, request: Request, copies: int, device: str = "cpu"
) -> Any:
    """The ONNX model of a stack of `copies` blocks, of the prologue or of the epilogue."""
    from nas.backends import onnx

    dtype = config.dtype
    if request.block is not None:
        return onnx.block_stack(shape, *request.block, copies, dtype=dtype, device=device)
    part = onnx.prologue_model if request.part == "embed" else onnx.epilogue_model
    return part(shape, dtype=dtype, device=device)


def _backend() -> ModuleType:
    """Imported on use: it needs numpy, which a command that only validates does not load."""
    from nas.backends import onnxruntime

    return onnxruntime


def stack_name(request: Request, copies: int) -> str:
    """Without the slot kind where both are of one width: what fits attention and feed-forward slots
    is measured once."""
    spec = request.spec
    what = request.key
    if spec is not None and request.part in ("attention", "ffn"):
        what = spec.label
    return f"{what} x{copies}"


def _run_name(request: Request, copies: int) -> str:
    return f"{stack_name(request, copies)} {request.phase}"
