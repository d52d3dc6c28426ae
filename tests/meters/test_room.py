"""What does not fit into a GPU's memory at once: groups with an anchor, an error with figures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from nas.config import TargetConfig
from nas.errors import PassError
from nas.ir import Conditions, GatedFeedForward, GroupedQueryAttention, LinearMap, Phase
from nas.meters import OnnxRuntimeMeter, Request, TorchMeter, requests_for
from nas.meters._feeds import Feeds
from nas.meters._room import anchors_of, in_groups, memory_errors
from nas.meters._stacks import Runs, StackMeter, run_name, stack_copies
from tests.chains import tiny_shape

MIB = 2**20
WIDE, NARROW = GatedFeedForward(width=48), GatedFeedForward(width=8)
PREFILL = [Request("ffn", "prefill", GatedFeedForward(width=w)) for w in (48, 40, 32, 24, 8)]
DECODE = [Request("ffn", "decode", GatedFeedForward(width=w)) for w in (48, 16)]


def size(request: Request) -> int:
    """A byte a channel, and ten outside the slots."""
    return request.spec.width if isinstance(request.spec, GatedFeedForward) else 10


def test_all_are_one_group_where_they_fit_or_nothing_is_known() -> None:
    requests = (Request("embed", "prefill"), *PREFILL, *DECODE)
    total = sum(map(size, requests))
    for room in (None, total):
        assert in_groups(requests, size, room) == [requests]
    assert len(in_groups(requests, size, total - 1)) > 1


@pytest.mark.parametrize("room", [57, 64, 90, 130])
def test_groups_fit_have_their_anchors_and_leave_nothing_out(room: int) -> None:
    requests = [Request("embed", "prefill"), *PREFILL, *DECODE, Request("head", "decode")]
    groups = in_groups(requests, size, room)
    anchors = anchors_of(requests, size)
    assert anchors == {"prefill": PREFILL[-1], "decode": DECODE[-1]}
    for group in groups:
        assert len(set(group)) == len(group)
        assert {anchors[r.phase] for r in group} <= set(group)
        mixed = {r.phase for r in group} == {"prefill", "decode"}
        alone = set(group) - set(anchors.values())
        assert sum(map(size, group)) <= room or (len(alone) <= 1 and not mixed)
    rest = [r for group in groups for r in group if r not in anchors.values()]
    assert rest == [r for r in requests if r not in anchors.values()]
    assert set(requests) == {r for group in groups for r in group}


def test_what_is_larger_than_the_room_stands_with_its_anchor_alone() -> None:
    small = Request("ffn", "prefill", NARROW)
    groups = in_groups([*PREFILL[:2], small], size, 20)
    assert groups == [(small, PREFILL[0]), (small, PREFILL[1])]


class Drifting(StackMeter):
    """Each copy takes as many milliseconds as its block has channels; every group is measured at
    twice the pace of the one before."""

    def __init__(self, room: int | None) -> None:
        config = TargetConfig(meter="torch", prompt_tokens=6, repeats=3)
        super().__init__(config, tiny_shape(), on_gpu=True)
        self.room, self.groups = room, list[tuple[Request, ...]]()

    def free_bytes(self) -> int | None:
        return self.room

    def bytes_of(self, request: Request) -> int:
        return size(request)

    def conditions(self, phase: Phase) -> Conditions:
        where = {"dtype": "float32", "runtime": "r", "runtime_version": "1", "device": "d"}
        return Conditions(phase=phase, batch=1, prompt_tokens=6, threads=1, **where)

    @contextlib.contextmanager
    def runs(self, requests: Sequence[Request]) -> Iterator[Runs]:
        pace = 2.0 ** len(self.groups)
        self.groups.append(tuple(requests))

        def taking(ms: float) -> Callable[[], float]:
            return lambda: ms

        yield {
            run_name(r, n): taking(pace * n * size(r)) for r in requests for n in self._stacks(r)
        }


def test_latencies_of_groups_are_compared_by_their_anchor() -> None:
    requests = [Request("embed", "prefill"), *PREFILL, *DECODE, Request("head", "decode")]
    apart, whole = Drifting(room=2 * 64), Drifting(room=None)
    found = apart.measure(requests)
    assert len(apart.groups) > 2
    expected = whole.measure(requests)
    assert len(whole.groups) == 1
    decode = next(i for i, group in enumerate(apart.groups) if any(r in DECODE for r in group))
    first = {"prefill": 1.0, "decode": 2.0**decode}  # the pace at which the phase was first met
    for request, mine, theirs in zip(requests, found, expected, strict=True):
        assert mine.median_ms == pytest.approx(theirs.median_ms * first[request.phase])
        if request.block is not None:
            assert mine.median_ms == pytest.approx(size(request) * first[request.phase])


def test_a_gpu_gets_no_more_copies_than_outgrow_its_caches() -> None:
    shape = tiny_shape(hidden_size=1024)
    request = Request("ffn", "decode", WIDE)
    one = 4 * (3 * 1024 * 48)
    for least, copies in ((one // 2, 1), (one, 1), (one + 1, 2), (5 * one, 5)):
        found = stack_copies(shape, request, "float32", least, 64, on_gpu=True)
        assert found == (copies, 2 * copies)
    assert stack_copies(shape, request, "float32", one, 16, on_gpu=False) == (4, 8)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_what_a_request_takes_is_at_least_what_is_made_for_it(phase: Phase) -> None:
    shape = tiny_shape()
    config = TargetConfig(meter="torch", prompt_tokens=6, batch=3, threads=1)
    meter, feeds = TorchMeter(config, shape), Feeds(config, shape)
    for request in requests_for(shape, [], (phase,)):
        stacks = meter._stacks(request)
        made = [sum(a.nbytes for a in feeds.of(request, n).values()) for n in stacks]
        assert [feeds.bytes_of(request, n) for n in stacks] == made
        assert meter.bytes_of(request) > sum(made)
    cached = Request("attention", "decode", GroupedQueryAttention(kv_heads=2))
    halves = TorchMeter(config.model_copy(update={"dtype": "bfloat16"}), shape)
    assert meter.bytes_of(cached) == 2 * halves.bytes_of(cached)


@pytest.mark.parametrize(
    ("error", "figure"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0"),
            "1.50 GiB more were refused",
        ),
        (
            RuntimeException("Failed to allocate memory for requested buffer of size 4096"),
            "4096 bytes more were refused",
        ),
        (Fail("CUDA failure 2: out of memory ; GPU=0"), "take about 300 MiB; 100 MiB are free"),
    ],
)
def test_a_device_without_memory_is_an_error_with_figures(error: Exception, figure: str) -> None:
    with (
        pytest.raises(PassError, match=r"target\.meter: x.*ffn/w48.*take about 300 MiB") as caught,
        memory_errors("target.meter: x", ["ffn/w48"], lambda: 300 * MIB, lambda: 100 * MIB),
    ):
        raise error
    assert figure in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("out of memory"), Fail("no kernel")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)), memory_errors("x", [], lambda: 0, lambda: None):
        raise error


@pytest.mark.parametrize("kind", [TorchMeter, OnnxRuntimeMeter])
def test_a_meter_says_so(
    kind: type[TorchMeter] | type[OnnxRuntimeMeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Runs:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    meter = kind(TargetConfig(prompt_tokens=6, threads=1), tiny_shape())
    monkeypatch.setattr(kind, "_runs", full)
    with pytest.raises(PassError, match=r"ffn/linear.*2\.00 MiB more were refused"):
        meter.measure([Request("ffn", "decode", LinearMap())])


@pytest.mark.parametrize("kind", [TorchMeter, OnnxRuntimeMeter])
def test_a_meter_measures_in_groups(
    kind: type[TorchMeter] | type[OnnxRuntimeMeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU of little memory."""
    groups: list[Sequence[Request]] = []
    build = kind._runs

    def seen(self: StackMeter, requests: Sequence[Request], *rest: object) -> Runs:
        groups.append(requests)
        return build(self, requests, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "_runs", seen)
    monkeypatch.setattr(kind, "free_bytes", lambda self: 1)
    meter = kind(TargetConfig(prompt_tokens=6, threads=1, repeats=2), tiny_shape())
    requests = requests_for(meter.shape, [], ("prefill", "decode"))
    latencies = meter.measure(requests)
    assert [latency.conditions.phase for latency in latencies] == [r.phase for r in requests]
    assert all(len(latency.samples_ms) == 2 for latency in latencies)
    anchors = anchors_of(requests, meter.bytes_of)
    assert len(groups) == len(requests) - 2
    for group in groups:
        assert anchors[group[-1].phase] in group
