"""`summary.json`: exact round trip, its schema, and numbers that may not contradict each other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nas.errors import ArtifactError
from nas.ir import (
    Budget,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    Latency,
    LinearMap,
    RefineStep,
    Solution,
)
from nas.report import (
    BudgetSummary,
    PhaseLatency,
    RefinementSummary,
    Summary,
    load_summary,
    summary_schema,
    this_environment,
    width_kept,
)
from nas.report._words import certificate
from nas.report.summary import packaged_schema_text, schema_text
from tests.chains import tiny_shape
from tests.report.example_summary import conditions, example_summary

Plain = dict[str, Any]


@pytest.fixture(scope="module")
def summary() -> Summary:
    return example_summary()


def test_json_round_trip_is_exact(summary: Summary, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(summary.model_dump_json(indent=1), encoding="utf-8")
    again = load_summary(path)
    assert again == summary
    assert again.model_dump_json(indent=1) == path.read_text(encoding="utf-8")


def test_checked_in_schema_is_up_to_date() -> None:
    assert packaged_schema_text() == schema_text(), (
        "write it anew: python -c 'from nas.report.summary import schema_text; "
        'print(schema_text(), end="")\' > nas/report/summary.schema.json'
    )


def test_schema_names_every_key_of_the_file(summary: Summary) -> None:
    schema = summary_schema()
    assert set(schema["properties"]) == set(summary.model_dump())
    assert schema["additionalProperties"] is False
    option = schema["$defs"]["OptionSummary"]["properties"]
    assert "KL(teacher || teacher" in option["loss"]["description"]


def _chosen_unknown(data: Plain) -> None:
    data["slots"][4]["chosen"] = "w999"


def _wrong_objective(data: Plain) -> None:
    data["solution"]["objective"] *= 1.01


def _wrong_speedup(data: Plain) -> None:
    data["models"][1]["latency"][0]["speedup"] = 2.0


def _wrong_error(data: Plain) -> None:
    data["models"][1]["latency"][0]["error_percent"] = 0.0


def _error_without_pace(data: Plain) -> None:
    data["models"][1]["latency"][0]["error_at_pace_percent"] = 3.0
    data["models"][1]["latency"][0]["pace"] = 1.3


def _wrong_forecast(data: Plain) -> None:
    data["forecast"][0]["error_percent"] = 0.0


def _wrong_ratio(data: Plain) -> None:
    data["models"][2]["quality"]["perplexity_ratio"] = 1.0


def _two_students(data: Plain) -> None:
    data["models"][2]["role"] = "student"


def _phase_without_conditions(data: Plain) -> None:
    data["target"]["conditions"] = data["target"]["conditions"][:1]


def _torn_curve(data: Plain) -> None:
    data["models"][1]["distillation"]["curve_losses"].pop()


def _unknown_key(data: Plain) -> None:
    data["latency"] = 3


def _other_version(data: Plain) -> None:
    data["schema_version"] = 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_chosen_unknown, "'w999' is not among its options"),
        (_wrong_objective, "solution.objective is"),
        (_wrong_forecast, "forecast of build: error_percent is"),
        (_wrong_speedup, "prefill speedup is 2.0"),
        (_wrong_error, "error_percent is 0.0"),
        (_error_without_pace, "error_at_pace_percent is 3.0"),
        (_wrong_ratio, "uniform_ffn: perplexity_ratio is 1.0"),
        (_two_students, "expected one student, found 2"),
        (_phase_without_conditions, "decode latency without target.conditions"),
        (_torn_curve, "differ in length"),
        (_unknown_key, "latency: Extra inputs"),
        (_other_version, "schema_version"),
    ],
)
def test_a_contradiction_does_not_load(
    summary: Summary, tmp_path: Path, change: Callable[[Plain], None], words: str
) -> None:
    data = json.loads(summary.model_dump_json())
    change(data)
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ArtifactError, match=re.escape(words)) as caught:
        load_summary(path)
    assert str(path) in str(caught.value)
    assert "nas report" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[]"])
def test_a_missing_or_torn_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "summary.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"summary\.json"):
        load_summary(path)


def test_non_finite_numbers_are_refused(summary: Summary) -> None:
    option = summary.slots[0].options[0].model_dump()
    with pytest.raises(ValidationError, match="finite number"):
        type(summary.slots[0].options[0]).model_validate({**option, "loss": float("nan")})


def test_phase_latency_derives_from_the_samples() -> None:
    teacher = PhaseLatency.of("prefill", measured=Latency.of([200.0], conditions("prefill")))
    mine = PhaseLatency.of(
        "prefill",
        predicted_ms=110.0,
        measured=Latency.of([90.0, 100.0, 120.0], conditions("prefill")),
        pace=0.95,
        teacher=teacher,
    )
    assert mine.measured_median_ms == 100.0
    assert mine.speedup == 2.0
    assert mine.error_percent == pytest.approx(10.0)
    assert mine.error_at_pace_percent == pytest.approx(4.5)
    assert mine.tokens_per_s == pytest.approx(5120.0)
    assert teacher.speedup is None
    unmeasured = PhaseLatency.of("decode", predicted_ms=3.0, teacher=teacher)
    assert unmeasured.measured_median_ms is unmeasured.speedup is unmeasured.error_percent is None


@pytest.mark.parametrize(
    ("sense", "dual", "words"),
    [
        ("max", 0.5, "1 % more (0.2 ms) would save about 0.1 nats."),
        ("min", 0.5, "1 % less (0.2 ms) would save about 0.1 nats."),
        ("max", 0.0, "Price 0: does not bind in the LP relaxation."),
        ("max", None, "No price known: the relaxation gave none."),
    ],
)
def test_budget_tells_its_price(sense: str, dual: float | None, words: str) -> None:
    budget = Budget.model_validate(
        {"name": "speedup", "cost": "prefill_ms", "limit": 20.0, "sense": sense}
    )
    solution = Solution(
        status="proven",
        costs={"prefill_ms": 19.0},
        slack={"speedup": 1.0},
        duals={} if dual is None else {"speedup": dual},
        solver="mip",
        seconds=0.1,
    )
    found = BudgetSummary.of(budget, solution)
    assert (found.value, found.slack, found.unit) == (19.0, 1.0, "ms")
    assert found.dual_in_words == words


def test_a_refinement_is_summed_up_from_its_steps() -> None:
    def step(n: int, choice: dict[str, str], kl: float, *, kept: bool) -> RefineStep:
        return RefineStep(
            round=n,
            radius=4,
            moved_slots=0,
            expected_kl=kl,
            realised_kl=kl,
            kept=kept,
            choice=choice,
        )

    steps = [
        step(0, {"a": "x", "b": "x"}, 0.5, kept=True),
        step(1, {"a": "y", "b": "y"}, 0.6, kept=False),
        step(1, {"a": "y", "b": "x"}, 0.4, kept=True),
    ]
    found = RefinementSummary.of(steps)
    assert found.model_dump() == {
        "networks": 3,
        "moved_slots": 1,
        "start_kl": 0.5,
        "realised_kl": 0.4,
    }


def test_a_refined_choice_is_not_called_optimal(summary: Summary) -> None:
    assert summary.solution is not None
    refinement = RefinementSummary(networks=4, moved_slots=7, start_kl=0.52, realised_kl=0.48)
    solution = summary.solution.model_copy(update={"refinement": refinement, "status": "incumbent"})
    said = certificate(summary.model_copy(update={"solution": solution}))
    assert said.startswith("7 of 60 slots away from the optimum of the sums")
    assert "0.480 nats in place of 0.520" in said


def test_width_kept() -> None:
    blocks = (
        KeepTeacher(),
        GroupedQueryAttention(kv_heads=1),
        GroupedQueryAttention(kv_heads=4, query_heads=4),
        GatedFeedForward(width=768),
        LinearMap(),
    )
    shape = tiny_shape(query_heads=8, kv_heads=4, ffn_width=1536)
    assert [width_kept(block, shape, "ffn") for block in blocks] == [1.0, 0.25, 0.5, 0.5, 0.0]


def test_this_environment_lists_only_what_is_installed() -> None:
    found = this_environment(["pydantic", "no-such-package-here"])
    assert list(found.packages) == ["pydantic"]
    assert found.cores >= 1
    assert found.memory_gib > 0
    assert found.cpu
