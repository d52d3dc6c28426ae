"""A race ends with the choice of the whole text, for less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas.config import validate_config
from nas.errors import ConfigError
from nas.passes import Artefacts, race
from nas.passes.race import completed

TEXT = {"score_sequences": 12, "evaluate_tokens": 240, "train_tokens": 2400}
RACE = {"until_certain": True, "race_sequences": 3}


def _spent(view: Artefacts) -> dict[str, Any]:
    return dict(view.context.run.require("score/race").data)


def test_the_choice_is_that_of_the_whole_text_for_less(artefacts: Callable[..., Artefacts]) -> None:
    whole = artefacts(data=TEXT)
    expected, scores = whole.solution.choice, whole.scores
    view = artefacts(data=TEXT, score=RACE)
    assert view.solution.choice == expected
    spent = _spent(view)
    assert spent["evaluations"] < spent["without_race"] == 12 * len(scores)
    first = {name: values[:3] for name, values in view.scores.items()}
    for name, values in first.items():  # all of them ran the first heat
        np.testing.assert_allclose(values, scores[name][:3], rtol=1e-4)


def test_a_second_race_measures_nothing(artefacts: Callable[..., Artefacts]) -> None:
    first = artefacts(data=TEXT, score=RACE).scores
    again = artefacts(data=TEXT, score=RACE)
    again.context.run.closed = frozenset({"score"})
    for name, values in again.scores.items():
        np.testing.assert_array_equal(values, first[name])


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
    heats = len(list(again.context.run.path("units", "score").glob("heat-*")))
    assert len(calls) - 1 == heats  # the one that died is run again, no other


def test_gaps_are_filled_by_how_hard_the_others_found_a_sequence() -> None:
    gap = np.nan
    filled = completed(
        {
            "a": np.array([1.0, 1.0, 2.0, 9.0]),
            "b": np.array([3.0, 3.0, 6.0, 9.0]),
            "c": np.array([0.5, 0.7, gap, gap]),
        },
        3,
    )
    np.testing.assert_allclose(filled["c"], [0.5, 0.7, 1.2])
    np.testing.assert_allclose(filled["a"], [1.0, 1.0, 2.0])


def test_a_race_needs_single_swaps() -> None:
    with pytest.raises(ConfigError, match="replace_one"):
        validate_config(
            {"teacher": {"source": "x"}, "score": {**RACE, "method": "one_backward"}}, "test"
        )
