"""Noise is what the measurements say: spreads of sums, draws that keep covariances."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.errors import ArtifactError, ConfigError
from nas.uncertainty import RelativeNoise, SequenceNoise
from tests.solvers.instances import random_problem
from tests.uncertainty.scored import names_of, scored


def test_the_spread_of_a_sum_is_that_of_the_sums_of_single_sequences() -> None:
    problem, scores = scored(7)
    picked = np.array([1, 6, 10])
    columns = np.stack([scores[names_of(problem)[i]] for i in picked], axis=1)

    spread = SequenceNoise(problem, scores).spread(picked)

    assert spread.standard_error == pytest.approx(columns.sum(axis=1).std(ddof=1) / math.sqrt(7))
    assert spread.degrees == 6


def test_scores_that_cancel_in_a_sum_leave_no_spread() -> None:
    problem, scores = scored(4)
    first, second = names_of(problem)[1], names_of(problem)[5]
    scores[second] = scores[second].mean() - (scores[first] - scores[first].mean())

    spread = SequenceNoise(problem, scores).spread(np.array([1, 5]))

    assert spread.standard_error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("sequences", [2, 3, 20])
def test_draws_vary_as_a_mean_of_that_many_sequences_does(sequences: int) -> None:
    problem, scores = scored(sequences)
    noise = SequenceNoise(problem, scores)
    sums = noise.draws(20_000, np.random.default_rng(0)).sum(axis=1)

    every = np.arange(len(noise.losses))
    assert sums.mean() == pytest.approx(noise.losses.sum(), rel=0.02)
    assert sums.std() == pytest.approx(noise.spread(every).standard_error, rel=0.05)


def test_an_option_without_scores_is_known_exactly() -> None:
    problem, scores = scored(5)
    noise = SequenceNoise(problem, scores)

    unscored = names_of(problem).index("s0/v3")
    assert noise.spread(np.array([unscored])).standard_error == 0.0
    assert np.ptp(noise.draws(50, np.random.default_rng(0))[:, unscored]) == 0.0


def test_relative_noise_is_a_share_of_each_loss() -> None:
    problem = random_problem(0)
    noise = RelativeNoise(problem, 0.05)
    draws = noise.draws(20_000, np.random.default_rng(0))

    assert draws.std(axis=0) == pytest.approx(0.05 * noise.losses, rel=0.05)
    picked = np.array([0, 6])
    assert noise.spread(picked).standard_error == pytest.approx(
        draws[:, picked].sum(axis=1).std(), rel=0.05
    )


def test_one_sequence_is_refused() -> None:
    problem, scores = scored(1)

    with pytest.raises(ConfigError, match=r"data\.score_sequences"):
        SequenceNoise(problem, scores)


def test_candidates_with_other_sequences_are_refused() -> None:
    problem, scores = scored(4)
    odd = names_of(problem)[1]
    scores[odd] = np.zeros(3)

    with pytest.raises(ArtifactError, match=f"scores of {odd}: length 3, of others 4"):
        SequenceNoise(problem, scores)


def test_scores_that_are_not_of_the_loss_are_refused_by_name() -> None:
    problem, scores = scored(4)
    name = names_of(problem)[1]
    scores[name] = scores[name] * 1.01

    with pytest.raises(ArtifactError, match=f"scores of {name}"):
        SequenceNoise(problem, scores)


def test_no_scores_at_all_are_refused() -> None:
    with pytest.raises(ArtifactError, match="no candidate has any"):
        SequenceNoise(scored(4)[0], {})


@pytest.mark.parametrize("share", [0.0, -0.1, 1.0, float("nan")])
def test_a_share_without_sense_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="--noise"):
        RelativeNoise(random_problem(0), share)
