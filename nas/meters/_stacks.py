"""What meters share that time stacks of blocks on this machine."""

from __future__ import annotations

import contextlib
import math
import statistics
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

from nas.config import TargetConfig
from nas.ir import ChainShape, Latency, Phase
from nas.meters._base import Meter, Request
from nas.meters._feeds import Feeds
from nas.meters._room import anchors_of, in_groups, memory_errors
from nas.meters._timing import interleaved, round_paces

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_COPIES = 4
# A GPU's memory is short beside large blocks, and a kernel's time is known well.
_GPU_COPIES = 1
# A decode run must be long beside the clock's and the scheduler's noise: enough copies of a small
# block that this much is read from memory, within reason.
_DECODE_BYTES = 24 * 2**20
_MOST_COPIES = 16
# The weights of a stack outgrow a GPU's caches.
_GPU_BYTES = 128 * 2**20
_MOST_GPU_COPIES = 64
# Of the free memory: the rest is for what a run needs while it lasts, and what an allocator keeps.
_SHARE = 0.5

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
    token, and those of a stack might. On a GPU, stacks are higher than its caches instead, and what
    does not fit into its memory at once is measured in groups. Each has the same small block for an
    anchor, whose times say how the pace of the machine has changed from group to group.
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
        groups, anchors = self._groups(requests)
        found: dict[Request, Latency] = {}
        usual: dict[Phase, float] = {}
        for group in groups:
            samples, change = self._samples(group), dict[Phase, float]()
            for phase in {request.phase for request in group} & anchors.keys():
                now = self._anchor_ms(anchors[phase], samples)
                before = usual.setdefault(phase, now)
                change[phase] = now / before if now > 0 and before > 0 else 1.0
            latencies = self.latencies(group, samples, change)
            found = dict(zip(group, latencies, strict=True)) | found
        return [found[request] for request in requests]

    def _samples(self, requests: Sequence[Request]) -> dict[str, list[float]]:
        """Of all runs of a group, which are gone when it returns."""
        with self.runs(requests) as runs:
            return interleaved(runs, self.config.repeats, warmup=2)

    def _groups(
        self, requests: Sequence[Request]
    ) -> tuple[list[tuple[Request, ...]], dict[Phase, Request]]:
        """What is measured at once, and the anchors; one group where there is no knowing."""
        free = self.free_bytes()
        if free is None:
            return [tuple(requests)], {}
        sizes = {request: self.bytes_of(request) for request in requests}
        groups = in_groups(requests, sizes.__getitem__, int(_SHARE * free))
        return groups, anchors_of(requests, sizes.__getitem__)

    def free_bytes(self) -> int | None:
        """Free memory of the GPU; None on a CPU, or where nothing tells."""
        from nas.backends._gpu import free_bytes

        return free_bytes() if self.on_gpu else None

    def bytes_of(self, request: Request) -> int:
        """About what the stacks of a request hold: weights, inputs, and outputs like them."""
        from nas.blocks import stored_bytes

        stacks, width = self._stacks(request), _BYTES[self.config.dtype]
        if request.block is None:
            weights = self.shape.outside_parameters * width
        else:
            weights = sum(stacks) * stored_bytes(self.shape, *request.block, width)
        # numpy knows no bfloat16, which is as wide
        dtype = "float32" if self.config.dtype == "float32" else "float16"
        feeds = Feeds(self.config.model_copy(update={"dtype": dtype}), self.shape)
        return weights + 2 * sum(feeds.bytes_of(request, copies) for copies in stacks)

    @contextlib.contextmanager
    def memory_errors(self, requests: Sequence[Request]) -> Iterator[None]:
        """Around all that builds and runs the stacks of `requests`: PassError where memory ends."""
        names = list(dict.fromkeys(request.key for request in requests))

        def wanted() -> int:
            return sum(map(self.bytes_of, requests))

        with memory_errors(f"target.meter: {self.config.meter}", names, wanted, self.free_bytes):
            yield

    def latencies(
        self,
        requests: Sequence[Request],
        samples: Mapping[str, Sequence[float]],
        change: Mapping[Phase, float] | None = None,
    ) -> list[Latency]:
        """One latency a request from the samples of `runs`, and of what ran beside them.

        The pace of a round is taken by phase: arithmetic bounds prefill, memory decode. `change`:
        pace of these samples over that of the ones before, of which the usual pace is.
        """
        paces = {
            phase: [pace * (change or {}).get(phase, 1.0) for pace in _paces(samples, phase)]
            for phase in {request.phase for request in requests}
        }
        return [self._latency(request, samples, paces[request.phase]) for request in requests]

    def _anchor_ms(self, anchor: Request, samples: Mapping[str, Sequence[float]]) -> float:
        series = samples[run_name(anchor, self._stacks(anchor)[-1])]
        paces = _paces(samples, anchor.phase)
        return statistics.median(s / pace for s, pace in zip(series, paces, strict=True))

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
        dtype, on_gpu = self.config.dtype, self.on_gpu
        return stack_copies(self.shape, request, dtype, least, most, on_gpu=on_gpu)


def _paces(samples: Mapping[str, Sequence[float]], phase: Phase) -> list[float]:
    return round_paces({n: s for n, s in samples.items() if n.endswith(f" {phase}")})


def stack_copies(
    shape: ChainShape,
    request: Request,
    dtype: str,
    least_bytes: int,
    most: int,
    *,
    on_gpu: bool,
) -> tuple[int, ...]:
    """N and 2N for a block, N copies of `least_bytes` of weights together and `most` at most; 1 for
    the parts outside the slots, which stand alone."""
    from nas.blocks import stored_bytes

    if request.block is None:
        return (1,)
    stored = stored_bytes(shape, *request.block, _BYTES[dtype])
    wanted = math.ceil(least_bytes / max(1, stored))
    copies = min(max(_GPU_COPIES if on_gpu else _COPIES, wanted), most)
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
