"""Combinations, tables of scores and controls."""

from __future__ import annotations

import math

import pytest
import torch

from nas.errors import ConfigError
from nas.proxies import (
    Accuracies,
    Combination,
    Proxy,
    Score,
    Trial,
    choose,
    evaluate,
    noise_pictures,
    random_labels,
)
from nas.proxies import measure as measured
from tests.proxies.networks import pictures, trial

COLUMNS = {"a": [1.0, 2.0, 1e9, math.nan], "b": [4.0, 3.0, 2.0, 1.0]}


def test_ranks_do_not_let_a_wide_column_decide() -> None:
    found = Combination(("a", "b")).combine(COLUMNS)

    assert found == [(2 + 4) / 8, (3 + 3) / 8, (4 + 2) / 8, (1 + 1) / 8]


def test_log_ranks_punish_a_low_rank() -> None:
    found = Combination(("a", "b"), "log_ranks").combine(COLUMNS)

    assert found[0] == pytest.approx((math.log(2 / 4) + math.log(4 / 4)) / 2)
    assert found[3] == pytest.approx(math.log(1 / 4))


def test_z_scores_fill_an_undefined_score_with_the_worst() -> None:
    found = Combination(("a",), "z_scores").combine({"a": [1.0, 3.0, math.nan]})

    assert found == pytest.approx([-math.sqrt(0.5), math.sqrt(2), -math.sqrt(0.5)])


@pytest.mark.parametrize("how", ["ranks", "log_ranks", "z_scores"])
def test_scale_and_shift_of_a_column_change_nothing(how: str) -> None:
    moved = {"a": [1e6 * v - 5 for v in COLUMNS["a"]], "b": COLUMNS["b"]}
    combination = Combination.parse(f"{how}:a+b")

    assert combination.combine(moved) == pytest.approx(combination.combine(COLUMNS))


def test_parses_what_it_prints() -> None:
    for text in ("ranks:a+b", "log_ranks:a", "z_scores:b+a"):
        assert str(Combination.parse(text)) == text
    assert Combination.parse("a+b") == Combination(("a", "b"))
    for wrong in ("sums:a+b", "a+a", ""):
        with pytest.raises(ConfigError):
            Combination.parse(wrong).combine(COLUMNS)
    with pytest.raises(ConfigError, match="no scores of c"):
        Combination.parse("a+c").combine(COLUMNS)


class Seeds(Proxy):
    """The seed; seed 1 is undefined."""

    name = "seeds"
    cost = "count"
    source = "test"

    def score(self, trial: Trial) -> float:
        return math.nan if trial.seed == 1 else float(trial.seed)


def test_averages_over_the_trials_that_are_defined() -> None:
    found = measured(Seeds(), [trial(seed=seed) for seed in (0, 1, 4)])

    assert found.value == 2
    assert found.undefined == 1
    assert math.isnan(Score((math.nan,), 0.0).value)
    with pytest.raises(ConfigError, match="at least one trial"):
        measured(Seeds(), [])


def test_a_table_has_a_column_a_proxy() -> None:
    table = evaluate([Seeds()], {"x": [trial(seed=3)], "y": [trial(seed=1)]})

    assert table.proxies == ("seeds",)
    assert table.column("seeds", ["x"]) == [3]
    assert math.isnan(table.column("seeds")[1])
    assert all(math.isnan(value) for value in table.column("other"))
    assert table.seconds("seeds") >= 0


def test_controls_replace_what_they_say() -> None:
    batch = pictures(16)
    noise, dealt = noise_pictures(batch), random_labels(batch)

    assert noise.inputs.shape == batch.inputs.shape
    assert torch.equal(noise.labelled(), batch.labelled())
    assert (
        abs(float(torch.corrcoef(torch.stack([noise.inputs, batch.inputs]).flatten(1))[0, 1])) < 0.1
    )
    assert torch.equal(dealt.inputs, batch.inputs)
    assert not torch.equal(dealt.labelled(), batch.labelled())
    assert torch.equal(dealt.labelled().bincount(), batch.labelled().bincount())


def test_chooses_the_proxies_that_help_each_other() -> None:
    """Two halves of the truth and one that misleads."""
    truth = [float(v) for v in range(16)]
    columns = {
        "high": [v // 4 for v in truth],
        "low": [v % 4 for v in truth],
        "wrong": [-v for v in truth],
    }
    known = Accuracies(tuple(map(str, truth)), tuple(truth), None, {})

    chosen = choose(known, columns, list(columns))

    assert set(chosen.names) == {"high", "low"}
    with pytest.raises(ConfigError, match="two proxies"):
        choose(known, columns, ["high"])
