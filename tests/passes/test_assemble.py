"""Assembly: refitting brings the stream back, and is kept only where the network gains."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from nas.chain import DecoderChain
from nas.ir import Architecture, LinearMap
from nas.passes import Artefacts
from nas.passes import assemble as assemble_pass
from nas.passes.assemble import assemble, assemble_students, assembled
from nas.passes.refit import refit

CHEAPER = Architecture(choices={"layers.0.attention": LinearMap(), "layers.1.ffn": LinearMap()})
OTHER = Architecture(choices={"layers.1.attention": LinearMap()})


@pytest.fixture
def view(artefacts: Callable[..., Artefacts]) -> Artefacts:
    found = artefacts()
    found.block_keys  # noqa: B018
    return found


@torch.no_grad()
def _last_states(chain: DecoderChain, ids: Tensor) -> Tensor:
    return chain.run(chain.embed_tokens(ids), chain.context(ids))


def _refit(teacher: DecoderChain, students: Mapping[str, DecoderChain], ids: Tensor) -> None:
    steps: list[int] = []
    refit(teacher, students, ids, 1e-6, steps.append)
    assert steps == [1] * len(teacher.slots)


def test_the_state_comes_back_towards_the_teachers(view: Artefacts) -> None:
    teacher, ids = view.context.teacher.chain, view.context.text.train
    student = assemble(teacher, CHEAPER, view.context.run.root)
    wanted = _last_states(teacher, ids)
    before = (_last_states(student, ids) - wanted).pow(2).sum()
    _refit(teacher, {"student": student}, ids)
    after = (_last_states(student, ids) - wanted).pow(2).sum()
    assert after < 0.8 * before


def test_a_damaged_output_layer_is_restored(view: Artefacts) -> None:
    """Its features are the teacher's, so the teacher's layer is the one solution."""
    teacher, ids = view.context.teacher.chain, view.context.text.train
    student = copy.deepcopy(teacher)
    layer = student.teacher_branch(1).output_layer
    layer.weight.mul_(0.5)
    _refit(teacher, {"student": student}, ids)
    expected = teacher.teacher_branch(1).output_layer.weight
    assert (layer.weight - expected).norm() < 0.05 * expected.norm()


def test_only_layers_that_write_to_the_stream_change(view: Artefacts) -> None:
    teacher = view.context.teacher.chain
    student = assemble(teacher, CHEAPER, view.context.run.root)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    _refit(teacher, {"student": student}, view.context.text.train)
    changed = {n for n, value in student.state_dict().items() if not value.equal(before[n])}
    assert changed == {
        "slots.0.branch.proj.weight",
        "slots.0.branch.proj.bias",
        "slots.1.branch.down_proj.weight",
        "slots.2.branch.o_proj.weight",
        "slots.3.branch.proj.weight",
        "slots.3.branch.proj.bias",
    }


def test_students_do_not_see_each_other(view: Artefacts) -> None:
    teacher, ids, root = view.context.teacher.chain, view.context.text.train, view.context.run.root
    alone = assemble(teacher, CHEAPER, root)
    _refit(teacher, {"alone": alone}, ids)
    together = {"first": assemble(teacher, OTHER, root), "second": assemble(teacher, CHEAPER, root)}
    _refit(teacher, together, ids)
    for name, value in together["second"].state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=0, atol=0)


def test_an_assembled_student_is_the_one_that_was_judged(view: Artefacts) -> None:
    students = {"student": CHEAPER}
    keys = assemble_students(view.context, students, view.block_keys)
    record = view.context.run.require("assemble/student")
    assert record.data["kept"]
    chain = assembled(view.context, "student", CHEAPER)
    found = assemble_pass._divergences(view.context, {"student": chain})["student"]
    assert found == pytest.approx(record.data["kl_refitted"], rel=1e-6)
    assert found < record.data["kl_from_library"]
    assert assemble_students(view.context, students, view.block_keys) == keys
    assert view.context.run.tally.reused["assemble"] == 1


def test_a_refit_that_does_not_help_is_not_kept(
    view: Artefacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harmful(teacher: DecoderChain, students: Mapping[str, DecoderChain], *rest: object) -> None:
        for student in students.values():
            student.slot(0).branch.output_layer.weight.mul_(-3)  # type: ignore[union-attr]

    monkeypatch.setattr(assemble_pass, "refit", harmful)
    assemble_students(view.context, {"student": CHEAPER}, view.block_keys)
    assert not view.context.run.require("assemble/student").data["kept"]
    expected = assemble(view.context.teacher.chain, CHEAPER, view.context.run.root).state_dict()
    for name, value in assembled(view.context, "student", CHEAPER).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_without_tokens_nothing_is_refitted(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(assemble={"refit_tokens": 0})
    assemble_students(view.context, {"student": CHEAPER}, view.block_keys)
    assert not view.context.run.path("units", "assemble").exists()
    expected = assemble(view.context.teacher.chain, CHEAPER, view.context.run.root).state_dict()
    for name, value in assembled(view.context, "student", CHEAPER).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
