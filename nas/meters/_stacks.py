"""What meters share that time stacks of blocks on this machine."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

from nas.config import TargetConfig
from nas.ir import ChainShape, Latency
from nas.meters._base import Meter, Request
from nas.meters._timing import interleaved, round_paces

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_COPIES = 4
# A decode run must be long beside the clock's and the scheduler's noise: enough copies of a small
# block that this much is read from memory, within reason.
_DECODE_BYTES = 24 * 2**20
_MOST_COPIES = 16
# The weights of a stack outgrow a GPU's caches.
_GPU_BYTES = 128 * 2**20
_MOST_GPU_COPIES = 64

Runs = dict[str, Callable[[], float]]
"""All that is to be timed, by name; a call takes one sample in milliseconds."""


class StackMeter(Meter):
    """Each distinct block once, from stacks of N and 2N copies: (t(2N) - t(N)) / N.

    The slope leaves out what a run costs whatever is in it. All stacks are timed in turn, round by
    round, so that a drift of the machine hits them alike; each round is one sample of each block,
    and the pace of each round is known by all that ran in it.
    Embedding and head, which stand alone in a network too, are timed directly. A short prefill runs
    once unheard each time, so that it does not share its processors. Before a decode run
    on a CPU the caches are emptied, since a network's weights do not survive in them from token to
    token, and those of a stack might. On a GPU, stacks are higher than its caches instead.
    """

    def __init__(self, config: TargetConfig, shape: ChainShape, on_gpu: bool) -> None:
        super().__init__(config, shape)
        self.on_gpu = on_gpu

    @abstractmethod
    def runs(self, requests: Sequence[Request]) -> contextlib.AbstractContextManager[Runs]:
        """All that is to be timed for `requests`, by `run_name`: once in each round of
        `interleaved`."""

    def measure(self, requests: Sequence[Request]) -> list[Latency]:
        if not requests:
            return []
        with self.runs(requests) as runs:
            samples = interleaved(runs, self.config.repeats, warmup=2)
        return self.latencies(requests, samples)

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

    def _latency(
        self, request: Request, samples: Mapping[str, Sequence[float]], pace: Sequence[float]
    ) -> Latency:
        conditions = self.conditions(request.phase)
        stacks = self._stacks(request)
        series = [samples[run_name(request, copies)] for copies in stacks]
        if len(series) == 1:
            return Latency.of(series[0], conditions, pace=pace)
        # Below zero there is noise alone.
        slopes = [max(0.0, long - short) / stacks[0] for short, long in zip(*series, strict=True)]
        return Latency.of(slopes, conditions, "slope", pace)

    def _stacks(self, request: Request) -> tuple[int, ...]:
        least, most = (_GPU_BYTES, _MOST_GPU_COPIES) if self.on_gpu else (0, _MOST_COPIES)
        if request.phase == "decode" and not self.on_gpu:
            least = _DECODE_BYTES
        return stack_copies(self.shape, request, self.config.dtype, least, most)


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


def stack_name(request: Request, copies: int) -> str:
    """Without the slot kind where both are of one width: what fits attention and feed-forward slots
    is measured once."""
    spec = request.spec
    what = request.key
    if spec is not None and request.part in ("attention", "ffn"):
        what = spec.label
    return f"{what} x{copies}"


def run_name(request: Request, copies: int) -> str:
    """The name of a stack's run in a phase."""
    return f"{stack_name(request, copies)} {request.phase}"
