"""Searching trained SuperLMs under limits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nas.chain import EncoderChain
from nas.errors import ConfigError, InfeasibleError
from nas.search._journal import Journal
from nas.supernet import (
    Agnostic,
    EncoderTimer,
    Judge,
    Limits,
    Pace,
    ProxyTask,
    RelationObjective,
    SubSpace,
    SuperNetwork,
    search_subnets,
    sub_spaces,
)
from tests.supernet.encoders import (
    LARGE,
    encoder,
    encoder_shape,
    framed_tokenizer,
    spaces,
    spec,
    windows,
)


class Depth(Judge):
    """Deeper is better; counts its calls."""

    name = "depth"

    def __init__(self) -> None:
        self.calls = 0

    def score(self, chain: EncoderChain) -> float:
        self.calls += 1
        return chain.shape.layers + chain.shape.hidden_size / 100


class Clock(EncoderTimer):
    """Milliseconds are layers times heads; the teacher takes 12."""

    def __init__(self) -> None:
        self.timed: list[str] = []

    def time(self, student: EncoderChain) -> Pace:
        shape = student.shape
        self.timed.append(f"{shape.layers}-{shape.query_heads}-{shape.hidden_size}")
        milliseconds = float(shape.layers * shape.query_heads)
        return Pace(milliseconds, 12 / milliseconds)


@pytest.fixture
def networks(tmp_path: Path) -> list[tuple[SubSpace, SuperNetwork]]:
    return [(space, SuperNetwork(encoder(), space.bound)) for space in spaces(tmp_path)]


def test_without_limits_the_best_score_wins(
    networks: list[tuple[SubSpace, SuperNetwork]],
) -> None:
    result = search_subnets(networks, Depth(), Limits())

    assert (result.within_limits, len(result.ranked), result.timed) == (32, 32, ())
    # Of equal scores, the one with the fewest parameters.
    assert result.winner.spec.key == "L3-A3-H24-R1.0"


def test_counted_limits_hold(networks: list[tuple[SubSpace, SuperNetwork]]) -> None:
    most = {"params_m": 0.009, "flops_m": 0.02}

    result = search_subnets(networks, Depth(), Limits.of(most))

    specs = [s for space, _ in networks for s in space.specs()]
    fitting = {s.key for s in specs if s.size().params <= 9_000 and s.size().flops <= 20_000}
    assert {c.spec.key for c in result.ranked} == fitting
    assert 0 < len(fitting) < 32
    with pytest.raises(InfeasibleError, match="the tightest feasible is params_m"):
        search_subnets(networks, Depth(), Limits(params_m=0.001))


def test_measured_limits_take_the_best_that_is_fast_enough(
    networks: list[tuple[SubSpace, SuperNetwork]],
) -> None:
    clock = Clock()

    result = search_subnets(networks, Depth(), Limits(speedup=2.0), timer=clock)

    assert result.winner.spec.key == "L2-A3-H24-R1.0"
    assert result.winner.pace == Pace(6.0, 2.0)
    # 3-4-24 and all that is larger than 3-3-24 is not timed once that was too slow.
    assert clock.timed == ["3-3-24", "3-3-16", "2-3-24"]
    with pytest.raises(InfeasibleError, match="the fastest of those measured takes 2 ms"):
        search_subnets(networks, Depth(), Limits(latency_ms=1.0), timer=Clock())


def test_a_journal_spares_what_was_scored(
    networks: list[tuple[SubSpace, SuperNetwork]], tmp_path: Path
) -> None:
    judge, path = Depth(), tmp_path / "scores.jsonl"

    first = search_subnets(networks, judge, Limits(), journal=Journal(path, {"a": 1}))
    second = search_subnets(networks, judge, Limits(), journal=Journal(path, {"a": 1}))

    assert judge.calls == 32
    assert first == second


def test_a_journal_tells_superlms_apart_that_share_a_name(tmp_path: Path) -> None:
    """Both unions hold the larger students; each has trained other weights for them."""
    judge, large = Depth(), tmp_path / "large.yaml"
    about = spaces(tmp_path, k=1)[0]
    (tmp_path / "small.yaml").write_text(LARGE.replace("[2, 3]", "[1]"))
    other = sub_spaces(encoder_shape(), [str(large), str(tmp_path / "small.yaml")], 1)[0]
    journal = Journal(tmp_path / "scores.jsonl", {})

    for union in (about, other):
        search_subnets(
            [(union, SuperNetwork(encoder(), union.bound))], judge, Limits(), journal=journal
        )

    assert about.name == other.name == "union"
    assert judge.calls == about.count + other.count


def test_trials_are_drawn_from_each_sub_space(
    networks: list[tuple[SubSpace, SuperNetwork]],
) -> None:
    result = search_subnets(networks, Depth(), Limits(), trials=5)

    names = [candidate.sub_space for candidate in result.ranked]
    assert [names.count(space.name) for space, _ in networks] == [5, 5]
    assert result == search_subnets(networks, Depth(), Limits(), trials=5)


def test_limits_on_what_nobody_knows_are_refused() -> None:
    with pytest.raises(ConfigError, match="--max depth: nobody knows this cost"):
        Limits.of({"depth": 3.0})


def test_both_judges_prefer_the_teacher() -> None:
    teacher = encoder()
    whole, part = spec(3, 4, 24, 1.5), spec(2, 3, 16, 1.0)
    network = SuperNetwork(teacher, whole)
    pairs = [
        ("one", "two"),
        ("three", "four words"),
        ("five", "five"),
        ("six", "seven"),
        ("a", "b"),
    ]
    agnostic = Agnostic(teacher, windows(6), RelationObjective(4))
    task = ProxyTask(teacher, framed_tokenizer(), pairs)

    for judge in (agnostic, task):
        assert judge.score(network.extract(whole)) > judge.score(network.extract(part))
    # Judged in the number format that the processor is fast in.
    assert math.isclose(agnostic.score(network.extract(whole)), 0.0, abs_tol=1e-2)
    assert math.isclose(task.score(network.extract(whole)), 1.0)


def test_a_timer_times_the_network_it_is_given() -> None:
    pytest.importorskip("onnxruntime")
    timer = EncoderTimer(encoder(), batch=2, tokens=8, threads=1, repeats=3)

    pace = timer.time(SuperNetwork(encoder(), spec(2, 3, 16, 1.0)).extract(spec(2, 3, 16, 1.0)))

    assert pace.latency_ms > 0
    assert pace.speedup > 0
    assert (timer.conditions.batch, timer.conditions.prompt_tokens) == (2, 8)
