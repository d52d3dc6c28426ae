"""Pairs of a layer learn together, and stay where the layer and the network gain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nas.ir import Architecture, GatedFeedForward, LinearMap, Skip
from nas.passes import Artefacts
from nas.passes import assemble as assemble_pass
from nas.passes.assemble import assemble, assemble_students, assembled
from nas.passes.couple import couple, pairs

PAIR = Architecture(choices={"layers.1.attention": LinearMap(), "layers.1.ffn": LinearMap()})
COUPLE = {"couple_epochs": 6, "couple_tokens": 960, "couple_learning_rate": 3e-3}
BUILD = {"tokens": 960, "batch_tokens": 96}


@pytest.fixture
def view(artefacts: Callable[..., Artefacts]) -> Artefacts:
    found = artefacts(assemble={**COUPLE, "refit_tokens": 0}, build=BUILD)
    found.block_keys  # noqa: B018
    return found


def test_a_pair_is_a_layer_of_which_both_blocks_were_replaced(view: Artefacts) -> None:
    def found(**choices: object) -> list[int]:
        named = {f"layers.{n[1]}.{n[3:]}": spec for n, spec in choices.items()}
        return list(pairs(view.context.shape, Architecture.model_validate({"choices": named})))

    assert found(l1_attention=LinearMap(), l1_ffn=LinearMap()) == [2]
    assert found(l0_attention=Skip(), l0_ffn=LinearMap()) == [0]
    assert found(l0_attention=Skip(), l0_ffn=Skip()) == []
    assert found(l0_attention=LinearMap(), l1_ffn=LinearMap()) == []
    assert found(l0_attention=LinearMap()) == []
    for precision in ("int8", "float16"):
        rounded = GatedFeedForward(width=24, precision=precision)
        assert found(l1_attention=LinearMap(), l1_ffn=rounded) == []


def test_the_held_out_error_of_the_layer_falls(view: Artefacts) -> None:
    """Judged by another computation on the sequences that were held out."""
    teacher, config = view.context.teacher.chain, view.context.config
    student = assemble(teacher, PAIR, view.context.run.root)
    windows = view.context.text.train[:40]
    judged = windows[-round(40 * config.build.held_out_fraction) :]

    @torch.no_grad()
    def error() -> float:
        state, rotary = teacher.embed_tokens(judged), teacher.context(judged)
        for k in (0, 1):
            state = teacher.slot(k)(state, rotary)
        wanted, mine = state, state
        for k in (2, 3):
            wanted, mine = teacher.slot(k)(wanted, rotary), student.slot(k)(mine, rotary)
        return float((mine - wanted).pow(2).sum() / (wanted - state).pow(2).sum())

    before, others = error(), student.slot(0).branch.state_dict()  # type: ignore[union-attr]
    kept = {name: value.clone() for name, value in others.items()}
    steps: list[int] = []
    found = couple(teacher, {"s": student}, windows, config.assemble, config.build, 0, steps.append)
    (layer,) = found["s"]
    assert steps == [1] * len(teacher.slots)
    assert layer.layer == 1
    assert layer.kept
    assert layer.apart == pytest.approx(before, rel=0.03)
    assert layer.together == pytest.approx(after := error(), rel=0.03)
    assert after < before
    for name, value in others.items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)


def test_a_pair_that_learns_nothing_stays_as_it_was(view: Artefacts) -> None:
    teacher, config = view.context.teacher.chain, view.context.config
    student = assemble(teacher, PAIR, view.context.run.root)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    harmful = config.assemble.model_copy(update={"couple_learning_rate": 3.0})
    windows = view.context.text.train[:40]
    found = couple(teacher, {"s": student}, windows, harmful, config.build, 0, lambda n: None)
    assert not found["s"][0].kept
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_an_assembled_student_has_its_coupled_pairs(view: Artefacts) -> None:
    students = {"student": PAIR, "other": Architecture(choices={"layers.0.ffn": LinearMap()})}
    keys = assemble_students(view.context, students, view.block_keys)
    data = view.context.run.require("assemble/student").data
    assert data["coupled"]["kept"] == (data["coupled"]["kl"] < data["kl_from_library"])
    assert data["coupled"]["kept"]
    chain = assembled(view.context, "student", PAIR)
    found = assemble_pass._divergences(view.context, {"student": chain})["student"]
    assert found == pytest.approx(data["coupled"]["kl"], rel=1e-6)
    other = view.context.run.require("assemble/other").data["coupled"]
    assert other["layers"] == []
    assert not other["kept"]
    assert assemble_students(view.context, students, view.block_keys) == keys
    assert view.context.run.tally.reused["assemble"] == 2


def test_pairs_that_do_not_help_the_network_are_put_back(
    view: Artefacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = assemble_pass._divergences

    def worse(context: object, chains: dict[str, object]) -> dict[str, float]:
        calls.append(1)
        found = first(context, chains)  # type: ignore[arg-type]
        return found if len(calls) == 1 else {name: kl + 9 for name, kl in found.items()}

    calls: list[int] = []
    monkeypatch.setattr(assemble_pass, "_divergences", worse)
    assemble_students(view.context, {"student": PAIR}, view.block_keys)
    assert not view.context.run.require("assemble/student").data["coupled"]["kept"]
    expected = assemble(view.context.teacher.chain, PAIR, view.context.run.root).state_dict()
    for name, value in assembled(view.context, "student", PAIR).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_the_refit_comes_after(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(assemble={**COUPLE, "refit_tokens": 960}, build=BUILD)
    assemble_students(view.context, {"student": PAIR}, view.block_keys)
    data = view.context.run.require("assemble/student").data
    chain = assembled(view.context, "student", PAIR)
    found = assemble_pass._divergences(view.context, {"student": chain})["student"]
    best = min(data["kl_from_library"], data["coupled"]["kl"], data["kl_refitted"])
    assert found == pytest.approx(best, rel=1e-6)
