"""Global distillation: it helps, it resumes, lockstep changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nas.ir import Architecture, LinearMap
from nas.passes import Artefacts, PassContext
from nas.passes import distill as distill_pass
from nas.passes.assemble import assemble_students
from nas.passes.report import _distillation
from nas.passes.students import distill_students
from nas.run import RunDirectory

STUDENTS = {
    "student": Architecture(choices={"layers.1.ffn": LinearMap()}),
    "other": Architecture(choices={"layers.0.attention": LinearMap()}),
}


def _weights(context: PassContext, name: str) -> dict[str, torch.Tensor]:
    return load_file(context.run.path("students", name, "weights.safetensors"))


def _distill(view: Artefacts, names: tuple[str, ...] = ("student",)) -> None:
    chosen = {name: STUDENTS[name] for name in names}
    keys = assemble_students(view.context, chosen, view.block_keys)
    distill_students(view.context, chosen, keys)


def test_distillation_lowers_the_divergence(artefacts: Callable[..., Artefacts]) -> None:
    steps = {"steps": 30, "learning_rate": 2e-3, "checkpoint_every": 1000}
    view = artefacts(distill=steps, assemble={"refit_tokens": 0})
    _distill(view)
    curve = view.context.run.require("distill/student").data
    assert len(curve["kl"]) == 30
    assert sum(curve["kl"][-5:]) < 0.9 * sum(curve["kl"][:5])


def test_the_reported_loss_has_all_terms(artefacts: Callable[..., Artefacts]) -> None:
    weights = {"kl_weight": 1.0, "cosine_weight": 10.0, "relation_weight": 100.0}
    context = artefacts(distill=weights).context
    old = {"kl": [1.0, 2.0], "cosine": [0.5, 0.25], "seconds": 3.0}
    for curve, losses in (
        ({**old, "relation": [0.5, 0.125]}, (56.0, 17.0)),
        ({**old, "relation": []}, (6.0, 4.5)),
        (old, (6.0, 4.5)),
    ):
        context.run.store("distill/student", "k", data=curve)
        told = _distillation(context, "student")
        assert told is not None
        assert told.curve_losses == losses


def test_how_often_it_is_written_is_no_other_distillation(
    artefacts: Callable[..., Artefacts],
) -> None:
    _distill(artefacts())
    again = artefacts(distill={"checkpoint_every": 3})
    _distill(again)
    assert "distill" not in again.context.run.tally.done


def test_without_steps_no_batch_is_asked_for(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(distill={"steps": 0, "batch_tokens": 10**6})
    _distill(view)
    assert view.context.run.require("distill/student").data["kl"] == []


def test_an_interrupted_distillation_ends_with_the_same_weights(
    artefacts: Callable[..., Artefacts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = artefacts()
    _distill(view)
    expected = _weights(view.context, "student")

    second = Artefacts(PassContext(view.context.config, RunDirectory.create(tmp_path / "second")))
    step, calls = distill_pass._step, []

    def dies_in_the_fourth(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(distill_pass, "_step", dies_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        _distill(second)
    calls.append(1)
    _distill(second)
    found = _weights(second.context, "student")
    assert len(calls) == 4 + 1 + 2, "two steps were left after the checkpoint"
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_students_in_lockstep_learn_as_they_would_alone(
    artefacts: Callable[..., Artefacts], tmp_path: Path
) -> None:
    together = artefacts()
    _distill(together, ("student", "other"))
    alone = Artefacts(PassContext(together.context.config, RunDirectory.create(tmp_path / "alone")))
    _distill(alone, ("other",))
    for name, tensor in _weights(alone.context, "other").items():
        torch.testing.assert_close(_weights(together.context, "other")[name], tensor)


def test_embeddings_are_trained_only_where_asked(artefacts: Callable[..., Artefacts]) -> None:
    frozen = artefacts()
    _distill(frozen)
    assert not any(n.startswith("embed.") for n in _weights(frozen.context, "student"))
    free = artefacts(distill={"train_embeddings": True})
    _distill(free)
    trained = _weights(free.context, "student")["embed.weight"]
    assert not torch.equal(trained, free.context.teacher.chain.embed.weight)


def test_a_torn_checkpoint_is_named_and_distillation_starts_anew(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts()
    path = view.context.run.path("checkpoints", "distill", "checkpoint.json")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn")
    _distill(view)
    damaged = [e for e in view.context.run.events() if e["event"] == "damaged"]
    assert [event["file"] for event in damaged] == [str(path)]
    assert len(view.context.run.require("distill/student").data["kl"]) == 4
