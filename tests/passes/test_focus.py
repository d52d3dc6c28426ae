"""Focused scores: real where the choice hangs on them, corrected elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas.errors import PassError
from nas.passes import Artefacts
from nas.passes.score import SlotScorer
from nas.passes.swaps import Swaps

FOCUS = {"method": "focused", "draws": 4, "focus_share": 0.3}


def _run(view: Artefacts) -> list[str]:
    return list(view.context.run.require("focus").data["run"])


def test_what_was_run_has_its_replace_one_score(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(score=FOCUS)
    scores, run = view.scores, _run(view)
    assert 0 < len(run) <= np.ceil(0.3 * len(scores))
    assert list(scores) == [c.id for c in view.candidates]
    exact = artefacts().scores
    for name in run:
        np.testing.assert_allclose(scores[name], exact[name], rtol=1e-4)
    rest = sorted(set(scores) - set(run))
    again = artefacts(score={**FOCUS, "method": "one_backward"}).scores
    for name in rest:  # one factor for all sequences of a candidate
        factor = scores[name] / again[name]
        np.testing.assert_allclose(factor, factor[0], rtol=1e-6)
        assert factor[0] > 0


def test_all_that_is_chosen_was_run_and_is_no_worse_than_by_one_backward(
    artefacts: Callable[..., Artefacts],
) -> None:
    focused = artefacts(score={**FOCUS, "focus_share": 1.0})
    choice, run = focused.solution.choice, set(_run(focused))
    assert {f"{s}/{v}" for s, v in choice.items() if v != "teacher"} <= run
    fast = artefacts(score={**FOCUS, "method": "one_backward"}).solution.choice
    true = {name: values.mean() for name, values in artefacts().scores.items()}
    found, before = (
        sum(true[f"{s}/{v}"] for s, v in chosen.items() if v != "teacher")
        for chosen in (choice, fast)
    )
    assert found <= 1.0001 * before


def test_a_second_call_makes_nothing(artefacts: Callable[..., Artefacts]) -> None:
    first = artefacts(score=FOCUS).scores
    again = artefacts(score=FOCUS)
    again.context.run.closed = frozenset({"score"})
    for name, values in again.scores.items():
        np.testing.assert_array_equal(values, first[name])
    assert not again.context.run.tally.done


def test_an_interrupted_focus_goes_on_from_what_was_run(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stored = Swaps._store, []

    def dies_at_the_fifth(self: Swaps, *arguments: Any) -> None:
        if len(stored) == 4:
            raise KeyboardInterrupt
        stored.append(arguments[0].id)
        store(self, *arguments)

    monkeypatch.setattr(Swaps, "_store", dies_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        artefacts(score=FOCUS).scores  # noqa: B018
    monkeypatch.setattr(Swaps, "_store", store)
    again = artefacts(score=FOCUS)
    run = _run(again) if again.scores else []
    assert set(stored) <= set(run)
    tally = again.context.run.tally
    assert tally.reused["swap"] == 4
    assert tally.done["swap"] == len(run) - 4
    assert "expansion" not in tally.done


def test_another_budget_reuses_what_was_run(artefacts: Callable[..., Artefacts]) -> None:
    first = artefacts(score=FOCUS)
    first.scores  # noqa: B018
    other = artefacts(score=FOCUS, budgets={"params_m": 0.0275})
    other.scores  # noqa: B018
    tally = other.context.run.tally
    assert tally.done["focus"] == 1
    assert tally.reused["swap"] > 0
    closed = artefacts(score=FOCUS, budgets={"params_m": 0.025})
    closed.context.run.closed = frozenset({"score"})  # as in `nas solve RUN --set budgets...`
    assert set(closed.scores) == set(other.scores)


def test_a_score_that_is_no_number_is_refused(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    kl = SlotScorer.kl
    monkeypatch.setattr(SlotScorer, "kl", lambda *a: (values * np.nan for values in kl(*a)))
    with pytest.raises(PassError, match="damaged"):
        artefacts(score=FOCUS).scores  # noqa: B018
