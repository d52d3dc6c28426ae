"""Refinement: a realised KL that only falls, under the same budgets."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from nas.compiler import answer_again
from nas.libraries import RunAnswer
from nas.passes import Artefacts
from nas.passes.assemble import assemble
from nas.passes.report import summarise
from nas.passes.solve import architecture_of, make_problem
from nas.solvers import verify, with_choice

ROUNDS = {"rounds": 3, "radius": 4, "draws": 3}


def test_the_student_realises_no_more_than_the_solution(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.passes.score.compute_dtype", lambda device: torch.float32)
    view = artefacts(refine=ROUNDS)
    refined, context = view.refined, view.context
    history = json.loads(context.run.path("solutions", "refined.json").read_text())["rounds"]
    kept = [step["realised_kl"] for step in history if step["kept"]]
    assert kept == sorted(kept, reverse=True)
    assert len(history) > 1, "nothing was tried"
    assert refined.realised_kl == kept[-1]

    teacher, ids = context.teacher.chain, context.text.score
    architecture = architecture_of(context.shape, view.candidates, refined)
    log_p = teacher(ids).log_softmax(-1)
    log_q = assemble(teacher, architecture, context.run.root)(ids).log_softmax(-1)
    true = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    assert refined.realised_kl == pytest.approx(true, rel=2e-3)
    assert view.architectures["student"] == architecture

    problem = make_problem(context, view.costs, view.candidates, view.scores)
    verify(problem, refined)
    assert refined.bound == pytest.approx(view.solution.bound)


def test_no_slot_that_was_moved_is_called_certain(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts()
    problem = make_problem(view.context, view.costs, view.candidates, view.scores)
    moved = next(slot for slot, variant in view.solution.choice.items() if variant == "teacher")
    choice = {**view.solution.choice, moved: "skip"}
    view.refined = with_choice(problem, view.solution, choice, realised_kl=0.0)

    slots = {slot.id: slot for slot in summarise(view).slots}

    assert slots[moved].chosen == "skip"
    assert [slot.id for slot in slots.values() if slot.certainty is None] == [moved]


def test_a_second_call_reads_the_record(artefacts: Callable[..., Artefacts]) -> None:
    first = artefacts(refine=ROUNDS).refined
    again = artefacts(refine=ROUNDS)
    again.context.run.closed = frozenset({"refine"})
    assert again.refined == first


def test_an_answer_names_the_kl_that_its_choice_was_run_with(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(refine=ROUNDS)
    view.solution  # noqa: B018
    before = answer_again(view.context.config, view.context.run)
    assert isinstance(before.found, RunAnswer)
    assert before.found.realised_kl is None
    refined = view.refined
    start, *_ = json.loads(view.context.run.path("solutions", "refined.json").read_text())["rounds"]

    answers = answer_again(view.context.config, view.context.run)

    assert isinstance(answers.found, RunAnswer)
    assert answers.found.choice == view.solution.choice == start["choice"]
    assert answers.found.realised_kl == start["realised_kl"]
    moved = refined.choice != view.solution.choice
    assert [note.split(",")[0] for note in answers.notes] == (
        ["refine moved on from this choice"] if moved else []
    )


def test_without_rounds_the_solution_stays(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts()
    assert view.refined is view.solution


def test_one_backward_scores_are_the_small_scores_of_replace_one(
    artefacts: Callable[..., Artefacts],
) -> None:
    exact = {n: v.mean() for n, v in artefacts().scores.items()}
    fast = artefacts(score={"method": "one_backward", "draws": 100}).scores
    assert fast.keys() == exact.keys()
    small = [name for name, kl in exact.items() if kl < 0.4]
    assert len(small) > 5
    for name in small:
        assert fast[name].shape == (3,)
        assert fast[name].mean() == pytest.approx(exact[name], rel=0.5)
