"""Several conditions in one problem: a table each, a limit each, and never one for another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.config import RunConfig, TargetConfig, validate_config, with_budget
from nas.errors import ConfigError, InfeasibleError
from nas.ir import Architecture, Conditions, Latency
from nas.meters import CostTable, create_meter, requests_for
from nas.passes import Artefacts
from nas.passes.measure import teacher_costs
from nas.passes.solve import architecture_of, make_budgets
from nas.report import render_html, scenario_table
from tests.report.test_tables import shown

CHAT = {"prompt_tokens": 4, "output_tokens": 40, "batch": 2}
SUMMARY = {"prompt_tokens": 60, "output_tokens": 2}
TARGET = {"scenarios": {"chat": CHAT, "summary": SUMMARY}}


def student_ms(view: Artefacts, phase: str, **changed: int) -> float:
    """The student on a table of one set of conditions that knows of no scenario."""
    target = view.context.config.target.model_copy(update={**changed, "scenarios": {}})
    shape = view.context.shape
    table = create_meter(target, shape).cost_table(requests_for(shape, view.space, [phase]))
    return table.total_ms(shape, architecture_of(shape, view.usable, view.solution), phase)


def teacher_ms(view: Artefacts, phase: str, **changed: int) -> float:
    target = view.context.config.target.model_copy(update={**changed, "scenarios": {}})
    table = create_meter(target, view.context.shape).cost_table(
        requests_for(view.context.shape, (), [phase])
    )
    return table.total_ms(view.context.shape, Architecture(), phase)


def test_each_scenario_has_a_table_under_its_own_conditions(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(target=TARGET)
    found = {
        name: (table.conditions("decode").batch, table.conditions("decode").prompt_tokens)
        for name, table in view.costs.scenarios.items()
    }
    assert found == {"chat": (2, 4), "summary": (1, 60)}
    assert view.costs.conditions("decode").prompt_tokens == 16
    for name, prompt in (("chat", 4), ("summary", 60)):
        path = view.context.run.path("costs", f"costs-{name}.json")
        rows = json.loads(path.read_text())["entries"]
        assert rows["head"]["prefill"]["conditions"]["prompt_tokens"] == prompt


def test_all_limits_hold_each_under_its_own_conditions(artefacts: Callable[..., Artefacts]) -> None:
    budgets = {
        "scenarios": {
            "chat": {"speedup": {"decode": 1.15}},
            "summary": {"speedup": 1.3},
        }
    }
    view = artefacts(target=TARGET, budgets=budgets)
    chat = teacher_ms(view, "decode", **CHAT), student_ms(view, "decode", **CHAT)
    summary = teacher_ms(view, "prefill", **SUMMARY), student_ms(view, "prefill", **SUMMARY)
    assert chat[0] / chat[1] >= 1.15 * (1 - 1e-9)
    assert summary[0] / summary[1] >= 1.3 * (1 - 1e-9)
    assert view.solution.slack.keys() == {
        "scenarios.chat.speedup.decode",
        "scenarios.summary.speedup.prefill",
    }


@pytest.mark.parametrize(
    ("limits", "cost", "limit"),
    [
        ({"ttft_ms": 3.0}, "chat.prefill_ms", 3.0),
        ({"tokens_per_s": 500.0}, "chat.decode_ms", 1000 * 2 / 500),
        ({"throughput_tokens_per_s": 500.0}, "chat.request_ms", 1000 * 2 * (4 + 40) / 500),
        ({"memory_mib": 9.0}, "chat.memory_mib", 9.0),
        ({"kv_mib_per_sequence": 0.5}, "chat.kv_mib_per_sequence", 0.5),
        ({"latency_ms": {"decode": 0.7}}, "chat.decode_ms", 0.7),
    ],
)
def test_a_limit_is_one_on_its_scenarios_cost(
    artefacts: Callable[..., Artefacts], limits: dict[str, Any], cost: str, limit: float
) -> None:
    view = artefacts(target=TARGET, budgets={"params_m": 0.03, "scenarios": {"chat": limits}})
    parameters, budget = make_budgets(view.context, view.costs)
    assert parameters.cost == "params_m"
    assert (budget.cost, budget.limit) == (cost, pytest.approx(limit))
    assert budget.name.startswith(f"scenarios.chat.{next(iter(limits))}")


def test_the_cache_counts_the_scenarios_batch_and_lengths(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(target=TARGET)
    costs = teacher_costs(view.context, view.costs)
    own, chat = costs["kv_mib_per_sequence"], costs["chat.kv_mib_per_sequence"]
    assert chat == pytest.approx(own * (4 + 40) / (16 + 8))
    weights = costs["memory_mib"] - own
    assert costs["chat.memory_mib"] == pytest.approx(weights + 2 * chat)


def test_what_cannot_be_met_is_told_as_the_user_would_write_it(
    artefacts: Callable[..., Artefacts],
) -> None:
    hopeless = {"params_m": 0.03, "scenarios": {"summary": {"speedup": 1000.0}}}
    with pytest.raises(InfeasibleError) as error:
        artefacts(target=TARGET, budgets=hopeless).costs  # noqa: B018
    reachable = error.value.tightest["scenarios.summary.speedup.prefill"]
    assert 1 < reachable < 1000
    assert "scenarios.summary.speedup.prefill: at least 1000 times asked" in str(error.value)


def conditions(**changed: object) -> Conditions:
    known = {"phase": "prefill", "batch": 1, "prompt_tokens": 8, "dtype": "float32", "threads": 2}
    rest = {"runtime": "a", "runtime_version": "1", "device": "b"}
    return Conditions.model_validate({**known, **rest, **changed})


def table(**changed: object) -> CostTable:
    return CostTable.of([("head", "prefill", Latency.of([1.0], conditions(**changed)))])


def test_scenarios_of_unlike_targets_do_not_mix() -> None:
    fine = {"a": table(batch=4, prompt_tokens=99)}
    assert CostTable(entries=table().entries, scenarios=fine).scenarios == fine
    other = {"a": table(batch=4, dtype="float16", threads=1)}
    with pytest.raises(ConfigError) as error:
        CostTable(entries=table().entries, scenarios=other)
    assert "scenario a: " in str(error.value)
    assert "dtype: 'float32' and 'float16', threads: 2 and 1" in str(error.value)
    assert "batch" not in str(error.value)


def test_a_table_of_other_conditions_does_not_stand_for_a_scenario(
    artefacts: Callable[..., Artefacts], tmp_path: Path
) -> None:
    first = artefacts()
    first.costs  # noqa: B018
    file = tmp_path / "table.json"
    file.write_text(first.costs.model_dump_json())
    target = {"meter": "table", "table": str(file), "hardware": "rtx4090"}
    with pytest.raises(ConfigError, match=r"prompt_tokens is 16, target\.prompt_tokens is 60"):
        artefacts(target={**target, "scenarios": {"summary": SUMMARY}}).costs  # noqa: B018
    own = tmp_path / "summary.json"
    own.write_text(artefacts(target=TARGET).costs.scenarios["summary"].model_dump_json())
    scenarios = {"summary": {**SUMMARY, "table": str(own)}}
    found = artefacts(target={**target, "scenarios": scenarios}).costs
    assert found.scenarios["summary"].conditions("prefill").prompt_tokens == 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"budgets": {"scenarios": {"chatt": {"speedup": 2}}}},
            "budgets.scenarios.chatt: target.scenarios has no chatt (it has chat, summary)",
        ),
        ({"budgets": {"scenarios": {"chat": {}}}}, "budgets: give at least one"),
        (
            {"budgets": {"scenarios": {"chat": {"latncy_ms": 2}}}},
            "budgets.scenarios.chat.latncy_ms: unknown key; did you mean latency_ms?",
        ),
        (
            {"budgets": {"scenarios": {"chat": {"params_m": 2}}}},
            "budgets.scenarios.chat.params_m: unknown key",
        ),
        (
            {
                "budgets": {"scenarios": {"chat": {"tokens_per_s": 2}}},
                "target": {**TARGET, "phases": ["prefill"]},
            },
            "budgets.scenarios.chat.tokens_per_s: add decode to target.phases",
        ),
        (
            {"target": {"scenarios": {"a.b": {"batch": 2}}}},
            "target.scenarios",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(
    small_config: Callable[..., RunConfig], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        small_config(**{"target": TARGET, **changes})
    assert message in str(error.value)


def test_what_a_scenario_leaves_out_is_the_targets() -> None:
    target = TargetConfig.model_validate(
        {"batch": 3, "output_tokens": 7, "threads": 2, "scenarios": {"a": {"prompt_tokens": 5}}}
    )
    here = target.in_scenario("a")
    found = (here.batch, here.prompt_tokens, here.output_tokens, here.threads, here.scenarios)
    assert found == (3, 5, 7, 2, {})


def test_a_budget_of_a_scenario_is_swept_by_its_path(
    small_config: Callable[..., RunConfig],
) -> None:
    config = small_config(
        target=TARGET, budgets={"scenarios": {"chat": {"speedup": {"decode": 1.1}}}}
    )
    changed = with_budget(config, "scenarios.chat.speedup", 1.4, "here").budgets
    assert changed.scenarios["chat"].limits("speedup") == {"decode": 1.1, "prefill": 1.4}
    fresh = with_budget(config, "scenarios.summary.ttft_ms", 8.0, "here").budgets
    assert fresh.scenarios["summary"].ttft_ms == 8.0
    assert fresh.scenarios["chat"] == config.budgets.scenarios["chat"]


def test_the_report_has_a_row_for_every_scenario(artefacts: Callable[..., Artefacts]) -> None:
    from nas.passes.report import summarise

    view = artefacts(target=TARGET, budgets={"scenarios": {"summary": {"speedup": 1.2}}})
    summary = summarise(view)
    for model in summary.models:
        rows = {(one.scenario, one.phase) for one in model.latency}
        assert rows == {
            (scenario, phase)
            for scenario in (None, "chat", "summary")
            for phase in ("prefill", "decode")
        }
    row = summary.student.latency_of("prefill", "summary")
    assert row is not None
    assert row.predicted_ms == pytest.approx(student_ms(view, "prefill", **SUMMARY))
    assert summary.target.scenarios["chat"].output_tokens == 40
    text = shown(scenario_table(summary))
    assert "chat" in text
    assert "summary" in text
    page = render_html(summary)
    assert "chat: Decode, 4 tokens in the cache, batch 2" in page


def test_paths_of_scenarios_start_at_the_configurations_folder(tmp_path: Path) -> None:
    from nas.config import load_config

    path = tmp_path / "c.yaml"
    path.write_text(
        "name: a\nteacher: {source: x}\nbudgets: {speedup: 1.3}\n"
        "target: {scenarios: {chat: {batch: 2, table: t.csv}}}\n"
    )
    assert load_config(path).target.scenarios["chat"].table == tmp_path / "t.csv"


def test_a_plain_dictionary_reads_back(small_config: Callable[..., RunConfig]) -> None:
    config = small_config(target=TARGET, budgets={"scenarios": {"chat": {"ttft_ms": 5}}})
    assert validate_config(config.model_dump(mode="json"), "again") == config
