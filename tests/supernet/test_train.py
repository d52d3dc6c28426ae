"""Sandwich training: what it trains, that it learns, and that it goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import nas.supernet._train as training
from nas.errors import ArtifactError, ConfigError, PassError
from nas.supernet import (
    Agnostic,
    Lessons,
    RelationObjective,
    Schedule,
    SuperNetwork,
    alone,
    sandwich,
    train,
)
from tests.supernet.encoders import encoder, spaces, spec, windows

SCHEDULE = Schedule(steps=6, batch=4, learning_rate=3e-3, checkpoint_every=2)


def lessons(schedule: Schedule = SCHEDULE, weight: float = 1.0) -> Lessons:
    return Lessons(encoder(), windows(10), RelationObjective(4, weight), schedule)


def test_a_step_trains_largest_smallest_and_random_ones(tmp_path: Path) -> None:
    large, _ = spaces(tmp_path)
    plan = sandwich(large, SCHEDULE)

    steps = [plan(step) for step in range(40)]

    assert all(step[:2] == [large.largest, large.smallest] for step in steps)
    assert all(len(step) <= 4 and len(set(step)) == len(step) for step in steps)
    assert len({s.key for step in steps for s in step}) > 10
    assert steps == [sandwich(large, SCHEDULE)(step) for step in range(40)]


def test_every_window_comes_once_before_any_comes_again() -> None:
    book = lessons(replace(SCHEDULE, batch=5))

    epochs = [torch.cat([book.batch(2 * e), book.batch(2 * e + 1)]) for e in (0, 1)]

    everything = sorted(map(tuple, windows(10).tolist()))
    assert [sorted(map(tuple, e.tolist())) for e in epochs] == [everything] * 2
    assert not torch.equal(*epochs)


def test_sharing_students_all_learn(tmp_path: Path) -> None:
    large, _ = spaces(tmp_path)
    book = lessons(replace(SCHEDULE, steps=60))
    network = SuperNetwork(book.teacher, large.bound)
    judge = Agnostic(book.teacher, windows(10), book.objective)
    students = [large.smallest, spec(2, 4, 24, 1.0), spec(3, 3, 16, 1.5)]
    before = [judge.loss(network.extract(s)) for s in students]

    train(network, book, sandwich(large, book.schedule))

    after = [judge.loss(network.extract(s)) for s in students]
    assert all(a < 0.8 * b for a, b in zip(after, before, strict=True))


def test_the_teacher_runs_once_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    large, _ = spaces(tmp_path)
    book = lessons()
    calls: list[int] = []
    goal = RelationObjective.goal
    monkeypatch.setattr(
        RelationObjective, "goal", lambda *given: (calls.append(1), goal(*given))[1]
    )

    train(SuperNetwork(book.teacher, large.bound), book, sandwich(large, SCHEDULE))

    assert len(calls) == SCHEDULE.steps


def test_an_interrupted_training_ends_in_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    large, _ = spaces(tmp_path)
    plan, path = sandwich(large, SCHEDULE), tmp_path / "superlm.safetensors"
    whole, stopped, resumed = (SuperNetwork(encoder(), large.bound) for _ in range(3))
    curve = train(whole, lessons(), plan)
    step = training._step

    def interrupted(*given: object) -> float:
        if given[-1] == 5:
            raise KeyboardInterrupt
        return step(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(training, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(stopped, lessons(), plan, checkpoint=path, key="k")
    again = train(resumed, lessons(), plan, checkpoint=path, key="k")

    assert again.loss == pytest.approx(curve.loss, rel=1e-5)
    for ours, theirs in zip(resumed.chain.parameters(), whole.chain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_finished_training_is_read_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    large, _ = spaces(tmp_path)
    path = tmp_path / "superlm.safetensors"
    first, second = (SuperNetwork(encoder(), large.bound) for _ in range(2))
    train(first, lessons(), sandwich(large, SCHEDULE), checkpoint=path, key="k")
    monkeypatch.setattr(training, "_step", lambda *_: pytest.fail("trained again"))

    train(second, lessons(), sandwich(large, SCHEDULE), checkpoint=path, key="k")

    pairs = zip(first.chain.parameters(), second.chain.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_foreign_and_torn_checkpoints_are_refused(tmp_path: Path) -> None:
    book, chosen = lessons(), spec(2, 3, 16, 1.0)
    path = tmp_path / "superlm.safetensors"
    network = SuperNetwork(book.teacher, chosen)
    train(network, book, alone(chosen), checkpoint=path, key="k")

    with pytest.raises(ArtifactError, match="belongs to another training"):
        train(network, book, alone(chosen), checkpoint=path, key="other")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="is torn"):
        train(network, book, alone(chosen), checkpoint=path, key="k")


def test_a_loss_that_is_no_number_stops_with_the_students_name() -> None:
    book, chosen = lessons(), spec(2, 3, 16, 1.0)
    network = SuperNetwork(book.teacher, chosen)
    with torch.no_grad():
        network.chain.get_parameter("slots.1.branch.up_proj.weight").fill_(float("nan"))

    with pytest.raises(PassError, match=r"L2-A3-H16-R1.0 is not finite at step 0"):
        train(network, book, alone(chosen))


def test_less_text_than_a_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="10 windows of training text are fewer"):
        lessons(replace(SCHEDULE, batch=11))
