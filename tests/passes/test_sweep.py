"""The front over budgets of a run, in the units that the user wrote."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nas.compiler import sweep_again
from nas.errors import ArtifactError, ConfigError
from nas.libraries import Answers, Sweep
from nas.passes import Artefacts
from nas.passes.sweep import loosened
from nas.uncertainty import Scrutiny, student_quantile


@pytest.fixture
def scored(artefacts: Callable[..., Artefacts]) -> Callable[..., Artefacts]:
    """As `artefacts`, with everything made that solving reads."""

    def make(**sections: object) -> Artefacts:
        view = artefacts(**sections)
        view.scores  # noqa: B018
        return view

    return make


def swept(view: Artefacts, *asked: str) -> Answers:
    return sweep_again(view.context.config, view.context.run, [Sweep.parse(text) for text in asked])


def test_each_point_is_what_solving_under_its_budget_gives(
    scored: Callable[..., Artefacts], artefacts: Callable[..., Artefacts]
) -> None:
    view = scored(budgets={"params_m": 0.027})
    answers = swept(view, "params_m=0.02:0.03:6")
    assert isinstance(answers.found, list)
    assert len(answers.found) > 2
    for answer in answers.found:
        alone = artefacts(budgets={"params_m": answer.budgets[0].limit}).solution
        assert answer.status == "proven"
        assert answer.objective == pytest.approx(alone.objective)


def test_a_plane_has_the_values_as_the_user_wrote_them(scored: Callable[..., Artefacts]) -> None:
    """Of a speed-up more is tighter: it stands in the plane as asked, limits are milliseconds."""
    view = scored(budgets={"params_m": 0.027})
    answers = swept(view, "speedup=1:1.4:3", "params_m=0.024:0.03:4")
    plane = answers.plane
    assert plane is not None
    assert (plane.across.name, plane.across.values) == ("speedup", (1.0, 1.2, 1.4))
    assert plane.across.budget == "speedup.prefill"
    assert plane.across.limits == tuple(sorted(plane.across.limits, reverse=True))
    losses = [[loss for loss in row if loss is not None] for row in plane.losses]
    assert all(row == sorted(row) for row in losses)
    assert losses[-1][0] < losses[0][-1]


def test_every_point_says_what_was_asked_in_the_words_of_the_user(
    scored: Callable[..., Artefacts],
) -> None:
    answers = swept(scored(budgets={"params_m": 0.027}), "speedup=1:1.4:3")
    assert isinstance(answers.found, list)
    asked = [answer.asked["speedup"] for answer in answers.found]
    assert set(asked) <= {1.0, 1.2, 1.4}
    assert asked == sorted(asked, reverse=True)
    assert all(answer.asked.keys() == {"speedup"} for answer in answers.found)


def test_every_point_has_an_interval_by_the_scores_of_the_run(
    scored: Callable[..., Artefacts],
) -> None:
    view = scored(budgets={"params_m": 0.027})
    asked = [Sweep.parse("params_m=0.02:0.03:6")]
    answers = sweep_again(
        view.context.config, view.context.run, asked, scrutiny=Scrutiny(confidence=0.8)
    )
    assert isinstance(answers.found, list)
    sums = [
        sum(view.scores.get(f"{s}/{v}", np.zeros(3)) for s, v in answer.choice.items())
        for answer in answers.found
    ]
    for answer, total in zip(answers.found, sums, strict=True):
        assert answer.measured is not None
        reach = student_quantile(0.8, 2) * np.std(total, ddof=1) / 3**0.5
        assert answer.measured.high == pytest.approx(np.mean(total) + reach)
    last = answers.found[-1].difference
    assert last is not None
    reach = student_quantile(0.8, 2) * np.std(sums[-1] - sums[0], ddof=1) / 3**0.5
    assert last.low == pytest.approx(np.mean(sums[-1] - sums[0]) - reach)
    assert any("80 % confidence, by 3 scoring sequences" in note for note in answers.notes)


def test_other_budgets_hold_and_nothing_is_written(scored: Callable[..., Artefacts]) -> None:
    view = scored(budgets={"params_m": 0.025, "latency_ms": {"prefill": 5.0, "decode": 5.0}})
    root = view.context.run.path()
    before = {*root.rglob("*")}
    answers = swept(view, "latency_ms=0.05:0.5:4")
    assert isinstance(answers.found, list)
    for answer in answers.found:
        assert answer.costs["params_m"] <= 0.025 * (1 + 1e-9)
        assert set(answer.slack) == {"params_m", "latency_ms.prefill", "latency_ms.decode"}
    assert {*root.rglob("*")} - before <= {root / "run.lock"}


def test_a_sweep_that_nothing_meets_says_what_could_be_met(
    scored: Callable[..., Artefacts],
) -> None:
    answers = swept(scored(), "params_m=0.00001:0.00002:3")
    assert isinstance(answers.found, list)
    (answer,) = answers.found
    assert answer.status == "infeasible"
    assert answer.infeasibility is not None
    assert answer.infeasibility.conflict == ("params_m",)
    assert answers.refusal is not None
    assert answers.refusal.tightest["params_m"] > 0.00002


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["memory_mb=1:2:3"], "did you mean memory_mib"),
        (["latency_ms.prefil=1:2:3"], "--sweep latency_ms.prefil"),
        (["params_m=-1:2:3"], "budgets.params_m"),
        (["params_m=1:2:3", "params_m=1:2:3"], "given twice"),
        (["params_m=1:2:3", "memory_mib=1:2:3", "speedup=1:2:3"], "3 given"),
    ],
)
def test_a_sweep_without_sense_is_refused(
    artefacts: Callable[..., Artefacts], asked: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        swept(artefacts(), *asked)


def test_what_is_loosest_does_not_hang_on_the_name_of_a_scenario(
    artefacts: Callable[..., Artefacts],
) -> None:
    scenarios = {"speedup": {"prompt_tokens": 8}}
    config = artefacts(target={"scenarios": scenarios}).context.config
    asked = [Sweep.parse(f"scenarios.speedup.{name}=1:2:3") for name in ("ttft_ms", "tokens_per_s")]
    limits = loosened(config, asked).budgets.scenarios["speedup"]
    assert (limits.ttft_ms, limits.tokens_per_s) == (2.0, 1.0)


def test_a_run_that_is_not_scored_cannot_be_swept(artefacts: Callable[..., Artefacts]) -> None:
    with pytest.raises(ArtifactError):
        swept(artefacts(), "params_m=0.02:0.03:3")
