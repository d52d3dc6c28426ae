"""The batch as a choice: the one at which the budgets cost least, and none where no batch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nas.config import TargetConfig, validate_config
from nas.errors import ConfigError, InfeasibleError
from nas.passes import Artefacts
from nas.passes.measure import teacher_costs
from nas.passes.report import report
from nas.passes.solve import make_budgets, make_problem
from tests.passes.test_scenarios import student_ms, teacher_ms

BATCHES = {"batches": [4, 16]}


def tokens_per_s(view: Artefacts, batch: int, ms: Callable[..., float] = student_ms) -> float:
    return 1000 * batch / ms(view, "decode", batch=batch, batches=())


def memory_mib(view: Artefacts, batch: int) -> float:
    prefix = "" if batch == 1 else f"batch-{batch}."
    return view.solution.costs[f"{prefix}memory_mib"]


def test_each_batch_is_measured_as_a_scenario() -> None:
    target = TargetConfig.model_validate({"batch": 4, "batches": [1, 4, 8], "prompt_tokens": 9})
    assert target.every_batch == (4, 1, 8)
    assert list(target.scenarios) == ["batch-1", "batch-8"]
    assert [target.at_batch(b).batch for b in target.every_batch] == [4, 1, 8]
    assert target.at_batch(8).prompt_tokens == 9
    assert target.at_batch(8).every_batch == (8,)
    assert TargetConfig.model_validate(target.model_dump()) == target


def test_a_batch_may_name_its_own_table() -> None:
    scenarios = {"batch-4": {"batch": 4, "table": "b4.csv"}}
    target = TargetConfig.model_validate({"batches": [4], "scenarios": scenarios})
    assert str(target.scenarios["batch-4"].table) == "b4.csv"


@pytest.mark.parametrize("wanted", [1, 4, 16])
def test_the_smallest_loss_decides(artefacts: Callable[..., Artefacts], wanted: int) -> None:
    """The teacher itself meets what is asked at one batch alone: nothing is lost there."""
    plain = artefacts(target=BATCHES)
    rates = {b: tokens_per_s(plain, b, teacher_ms) for b in (1, 4, 16)}
    assert rates[1] < rates[4] < rates[16]
    costs = teacher_costs(plain.context, plain.costs)
    prefix = "" if wanted == 1 else f"batch-{wanted}."
    budgets = {
        "tokens_per_s": 0.999 * rates[wanted],
        "memory_mib": 1.001 * costs[f"{prefix}memory_mib"],
        "params_m": 1.0,
    }
    view = artefacts(target=BATCHES, budgets=budgets)
    assert view.solution.objective == 0
    assert view.context.batch == wanted
    assert tokens_per_s(view, wanted) >= budgets["tokens_per_s"] * (1 - 1e-9)
    assert memory_mib(view, wanted) <= budgets["memory_mib"] * (1 + 1e-9)
    assert view.context.run.path("solutions", "batch.json").is_file()


def test_less_is_lost_than_at_any_other_batch(artefacts: Callable[..., Artefacts]) -> None:
    plain = artefacts(target=BATCHES)
    ttft = 0.9 * teacher_ms(plain, "prefill", batch=16, batches=())
    budgets = {"ttft_ms": ttft, "tokens_per_s": 3 * tokens_per_s(plain, 1, teacher_ms)}
    view = artefacts(target=BATCHES, budgets=budgets)
    alone = {}
    for batch in (1, 4, 16):
        try:
            alone[batch] = artefacts(target={"batch": batch}, budgets=budgets).solution.objective
        except InfeasibleError:
            continue
    assert view.solution.objective == pytest.approx(min(alone.values()))
    assert view.context.batch == min(alone, key=lambda b: (alone[b], b))


def test_budgets_keep_their_names_and_take_the_costs_of_the_batch(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(target=BATCHES, budgets={"tokens_per_s": 500.0, "params_m": 0.03})
    table = view.costs
    for batch, cost in ((1, "decode_ms"), (4, "batch-4.decode_ms"), (16, "batch-16.decode_ms")):
        found = {b.name: b for b in make_budgets(view.context, table, batch=batch)}
        assert found.keys() == {"tokens_per_s", "params_m"}
        assert found["tokens_per_s"].cost == cost
        assert found["tokens_per_s"].limit == pytest.approx(1000 * batch / 500)


def test_what_no_batch_meets_is_refused_with_all_of_them(
    artefacts: Callable[..., Artefacts],
) -> None:
    with pytest.raises(
        InfeasibleError, match=r"at batch 1; no student .* at 4, 16 either"
    ) as error:
        artefacts(target=BATCHES, budgets={"tokens_per_s": 1e12}).costs  # noqa: B018
    assert "tokens_per_s" in error.value.tightest


def test_the_run_goes_on_with_the_chosen_batch(artefacts: Callable[..., Artefacts]) -> None:
    plain = artefacts(target=BATCHES)
    rate = 0.99 * tokens_per_s(plain, 16, teacher_ms)
    budgets = {"tokens_per_s": rate, "params_m": 0.03}
    view = artefacts(target=BATCHES, budgets=budgets)
    assert report(view).exists()
    assert view.context.batch == 16
    again = artefacts(target=BATCHES, budgets=budgets)
    assert again.context.batch == 16
    problem = make_problem(again.context, again.costs, again.usable, again.scores)
    assert {b.cost for b in problem.budgets} == {"batch-16.decode_ms", "params_m"}


@pytest.mark.parametrize(
    "section",
    [
        {"score": {"until_certain": True}},
        {"score": {"method": "focused"}},
        {"prune": {"keep": 0.5}},
    ],
)
def test_what_narrows_under_one_batch_is_refused(section: dict[str, Any]) -> None:
    settings = {
        "name": "b",
        "teacher": {"source": "x"},
        "budgets": {"ttft_ms": 1},
        "target": BATCHES,
        **section,
    }
    with pytest.raises(ConfigError, match=r"target\.batches: prune\.keep"):
        validate_config(settings, "test")
