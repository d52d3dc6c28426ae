"""A race ends with the choice of the whole text, for less."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas.config import validate_config
from nas.errors import ConfigError, PassError
from nas.passes import Artefacts, race
from nas.passes._gaps import completed, has_gaps
from nas.passes.solve import judge_solution
from nas.uncertainty import Scrutiny

TEXT = {"score_sequences": 12, "evaluate_tokens": 240, "train_tokens": 2400}
RACE = {"until_certain": True, "race_sequences": 3}


def _spent(view: Artefacts) -> dict[str, Any]:
    return dict(view.context.run.require("race").data)


def test_the_choice_is_that_of_the_whole_text_for_less(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(data=TEXT, score=RACE)
    raced, spent = view.solution.choice, _spent(view)
    whole = artefacts(data=TEXT)  # scores the rest
    scores = whole.scores
    assert whole.solution.choice == raced
    assert spent["evaluations"] < spent["without_race"] == 12 * len(scores)
    for name, values in view.scores.items():
        known = ~np.isnan(values)
        assert known[:3].all()  # all of them ran the first heat
        np.testing.assert_allclose(values[known], scores[name][: len(values)][known], rtol=1e-4)


def test_a_second_race_measures_nothing(artefacts: Callable[..., Artefacts]) -> None:
    first = artefacts(data=TEXT, score=RACE).scores
    again = artefacts(data=TEXT, score=RACE)
    again.context.run.closed = frozenset({"score"})
    for name, values in again.scores.items():
        np.testing.assert_array_equal(values, first[name])


def test_whole_scores_that_the_disk_lost_are_raced_for(
    artefacts: Callable[..., Artefacts],
) -> None:
    whole = artefacts(data=TEXT)
    lost = whole.context.run.path("scores", f"{whole.space[0].slot.id}.parquet")
    assert all(len(values) == 12 for values in whole.scores.values())
    assert artefacts(data=TEXT, score=RACE).solution.choice == whole.solution.choice
    lost.unlink()
    again = artefacts(data=TEXT, score=RACE)
    assert again.solution.choice == whole.solution.choice
    assert again.context.run.tally.done["race"] == 1


def test_an_interrupted_race_goes_on_from_its_heats(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = artefacts(data=TEXT, score=RACE)
    scored, calls = race._Race._scored, []

    def dies_in_the_second(self: race._Race, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scored(self, *arguments)

    monkeypatch.setattr(race._Race, "_scored", dies_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        view.scores  # noqa: B018
    again = artefacts(data=TEXT, score=RACE)
    again.scores  # noqa: B018
    assert again.context.run.tally.reused["heat"] == len(again.context.shape.slots())


def test_another_budget_is_another_race_over_the_same_heats(
    artefacts: Callable[..., Artefacts],
) -> None:
    artefacts(data=TEXT, score=RACE).scores  # noqa: B018
    other = artefacts(data=TEXT, score=RACE, budgets={"params_m": 0.031})
    other.scores  # noqa: B018
    assert "race" in other.context.run.tally.done
    assert other.context.run.tally.reused["heat"] > 0
    again = artefacts(data=TEXT, score=RACE, budgets={"params_m": 0.025})
    again.context.run.closed = frozenset({"score"})  # as in `nas solve RUN --set budgets...`
    assert set(again.scores) == set(other.scores)


def test_what_is_scored_on_the_whole_text_stays(artefacts: Callable[..., Artefacts]) -> None:
    whole = artefacts(data=TEXT).scores
    view = artefacts(data=TEXT, score=RACE)
    for name, values in view.scores.items():
        np.testing.assert_array_equal(values, whole[name])
    assert not view.context.run.tally.done


def test_gaps_are_no_measurements(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(data=TEXT, score=RACE)
    assert any(np.isnan(values).any() for values in view.scores.values())
    assert view.uncertainty is None
    parts = view.costs, view.candidates, view.scores, view.solution
    with pytest.raises(ConfigError, match="race"):
        judge_solution(view.context, *parts, Scrutiny())
    stored = next(view.context.run.path("solutions").glob("*/problem.json"))
    assert "scores" not in json.loads(stored.read_text())


def test_a_score_that_is_no_number_ends_the_race(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        for slot, columns in scored(*arguments):
            yield slot, {label: values * np.nan for label, values in columns.items()}

    scored = race.replace_one
    monkeypatch.setattr(race, "replace_one", broken)
    with pytest.raises(PassError, match="damaged"):
        artefacts(data=TEXT, score=RACE).scores  # noqa: B018


def test_gaps_are_filled_by_how_hard_the_others_found_a_sequence() -> None:
    gap = np.nan
    scores = {
        "a": np.array([1.0, 1.0, 2.0]),
        "b": np.array([3.0, 3.0, 6.0]),
        "c": np.array([0.5, 0.7, gap]),
    }
    assert has_gaps(scores)
    filled = completed(scores)
    assert not has_gaps(filled)
    np.testing.assert_allclose(filled["c"], [0.5, 0.7, 1.2])
    np.testing.assert_allclose(filled["a"], scores["a"])


def test_a_race_needs_single_swaps() -> None:
    with pytest.raises(ConfigError, match="replace_one"):
        validate_config(
            {"teacher": {"source": "x"}, "score": {**RACE, "method": "one_backward"}}, "test"
        )
