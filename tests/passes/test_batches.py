"""The batch as a choice: the one at which the budgets cost least, and none where no batch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from nas.compiler import answer_again, compile_run, solve_again, sweep_again
from nas.config import TargetConfig, validate_config
from nas.errors import ConfigError, InfeasibleError
from nas.libraries import RunAnswer, Sweep
from nas.passes import Artefacts
from nas.passes.measure import teacher_costs
from nas.passes.report import report, summarise
from nas.passes.solve import make_budgets, make_problem
from nas.report import Summary, load_summary, render_html
from nas.run import RunDirectory
from nas.uncertainty import Scrutiny
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


@pytest.mark.parametrize(
    "given", [{"table": "b4.csv"}, {"batch": 4, "table": "b4.csv"}, {"batch": None}, None]
)
def test_what_is_said_of_a_batch_leaves_its_size_alone(given: dict[str, Any] | None) -> None:
    scenarios = {"batch-4": given, "chat": {"prompt_tokens": 9}}
    target = TargetConfig.model_validate({"batches": [4], "scenarios": scenarios})
    assert target.at_batch(4).batch == 4
    table = target.scenarios["batch-4"].table
    assert str(table) == ("b4.csv" if given and "table" in given else "None")
    assert target.in_scenario("chat").batch == 1
    again = {**vars(target), "scenarios": target.scenarios}
    assert TargetConfig.model_validate(again) == target


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt_tokens": 64}, r"batch-4\.prompt_tokens: 64 is given.*batch-4 with 512"),
        ({"output_tokens": 1}, r"batch-4\.output_tokens"),
        ({"batch": 8}, r"batch-4\.batch: 8 is given.*with 4"),
    ],
)
def test_a_batch_with_other_conditions_than_its_name_is_refused(
    given: dict[str, int], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        TargetConfig.model_validate({"batches": [4], "scenarios": {"batch-4": given}})
    free = TargetConfig.model_validate({"scenarios": {"batch-4": given}})
    assert free.in_scenario("batch-4") != free


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
    assert report(again).exists()
    assert not again.context.run.tally.done
    problem = make_problem(again.context, again.costs, again.usable, again.scores)
    assert {b.cost for b in problem.budgets} == {"batch-16.decode_ms", "params_m"}


def test_the_report_is_of_the_chosen_batch(artefacts: Callable[..., Artefacts]) -> None:
    """Its figures are those of a run that knows of no other batch."""
    plain = artefacts(target=BATCHES)
    rate = 0.99 * tokens_per_s(plain, 16, teacher_ms)
    budgets = {"tokens_per_s": rate, "params_m": 0.03}
    chosen = summarise(artefacts(target=BATCHES, budgets=budgets))
    only = summarise(artefacts(target={"batch": 16}, budgets=budgets))
    assert chosen.target.conditions == only.target.conditions
    assert {c.batch for c in chosen.target.conditions} == {16}
    assert {name: s.conditions[0].batch for name, s in chosen.target.scenarios.items()} == {
        "batch-4": 4,
        "batch-1": 1,
    }
    assert chosen.target.batch_losses.keys() == {1, 4, 16}
    assert chosen.solution is not None
    assert chosen.target.batch_losses[16] == chosen.solution.objective
    assert only.target.batch_losses == {}
    assert Summary.model_validate_json(chosen.model_dump_json()) == chosen
    assert [(b.name, b.cost, b.value) for b in chosen.budgets] == [
        (b.name, b.cost, b.value) for b in only.budgets
    ]
    assert chosen.outside == only.outside
    assert chosen.slots == only.slots
    for mine, theirs in zip(chosen.models, only.models, strict=True):
        assert mine.memory_mib == theirs.memory_mib
        assert mine.kv_mib_per_sequence == theirs.kv_mib_per_sequence
        for phase in ("prefill", "decode"):
            assert mine.latency_of(phase) == theirs.latency_of(phase)
        slow, fast = mine.latency_of("decode", "batch-1"), mine.latency_of("decode")
        assert slow is not None
        assert fast is not None
        assert slow.predicted_ms != fast.predicted_ms
    assert "batch 16 (chosen from 1, 4, 16)" in render_html(chosen)


def test_a_what_if_leaves_the_batch_of_the_run(artefacts: Callable[..., Artefacts]) -> None:
    plain = artefacts(target=BATCHES)
    rate = 0.99 * tokens_per_s(plain, 16, teacher_ms)
    own = artefacts(target=BATCHES, budgets={"tokens_per_s": rate, "params_m": 0.03}).context
    compile_run(own.config, own.run)
    chosen = own.run.path("solutions", "batch.json").read_bytes()
    losses = load_summary(own.run.path("report", "summary.json")).target.batch_losses
    assert own.batch == 16

    other = artefacts(target=BATCHES, budgets={"params_m": 0.03}).context
    answer = solve_again(other.config, other.run)
    judged = answer_again(other.config, other.run, Scrutiny(resamples=5)).found
    assert isinstance(judged, RunAnswer)
    assert judged.batch is not None
    assert judged.objective == answer.objective
    assert judged.uncertainty is not None
    assert {s: sure.choice for s, sure in judged.uncertainty.slots.items()} == answer.choice

    for start in (None, "export", "evaluate", "report"):
        outcome = compile_run(own.config, RunDirectory.open(own.run.root), start=start)
        assert outcome.nothing_to_do
    assert own.run.path("solutions", "batch.json").read_bytes() == chosen
    assert load_summary(own.run.path("report", "summary.json")).target.batch_losses == losses


def test_one_batch_is_no_choice(artefacts: Callable[..., Artefacts]) -> None:
    found = summarise(artefacts(target={"batches": [1]}))
    assert found.target.batch_losses == {}
    assert not found.target.scenarios


def test_a_sweep_takes_the_best_batch_at_each_point(artefacts: Callable[..., Artefacts]) -> None:
    plain = artefacts(target=BATCHES)
    rates = {b: tokens_per_s(plain, b, teacher_ms) for b in (1, 16)}
    memory = 1.001 * teacher_costs(plain.context, plain.costs)["batch-4.memory_mib"]
    budgets = {"memory_mib": memory, "tokens_per_s": rates[1]}
    view = artefacts(target=BATCHES, budgets=budgets)
    view.scores  # noqa: B018
    asked = [Sweep.parse(f"tokens_per_s={0.9 * rates[1]}:{1.2 * rates[16]}:4")]
    answers = sweep_again(view.context.config, view.context.run, asked)
    assert isinstance(answers.found, list)
    for answer in answers.found:
        assert answer.batch is not None
        assert answer.asked.keys() == {"tokens_per_s"}
        (limit,) = (b.limit for b in answer.budgets if b.name == "tokens_per_s")
        wanted = {"memory_mib": memory, "tokens_per_s": answer.asked["tokens_per_s"]}
        assert limit == pytest.approx(1000 * answer.batch / answer.asked["tokens_per_s"])
        alone = {}
        for batch in (1, 4, 16):
            try:
                alone[batch] = artefacts(target={"batch": batch}, budgets=wanted).solution.objective
            except InfeasibleError:
                continue
        assert answer.objective == pytest.approx(min(alone.values()))
        assert answer.batch == min(alone, key=lambda b: (alone[b], b))
    assert {answer.batch for answer in answers.found} == {1, 16}
    losses = [answer.objective for answer in answers.found]
    assert losses == sorted(losses, reverse=True)  # from the tightest on


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
