"""`nas solve --library`: forms of the answer, exit codes, and what does not go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Nas
from tests.libraries.files import puzzle_data, write_csv, write_json

MEMORY = "stats.memory_mib"
FIELDS = {
    *("status", "objective", "bound", "lp_bound", "gap", "costs", "budgets", "slack", "duals"),
    *("prices", "choice", "solver", "seconds", "infeasibility", "uncertainty", "batch", "asked"),
    *("measured", "difference"),
}

JOINT_FIELDS = {
    *("status", "objective", "bound", "lp_bound", "gap", "differ", "greedy_objective"),
    *("solutions", "seconds", "infeasibility"),
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return write_json(tmp_path / "library.json", puzzle_data(6, 5))


@pytest.fixture
def asked(library: Path) -> list[object]:
    return ["solve", "--library", library, "--objective", "metrics.kl_div"]


def test_json_has_every_field_of_the_answer(nas: Nas, asked: list[object]) -> None:
    result = nas(*asked, "--max", f"{MEMORY}=3000", "--max", "stats.runtime_ms=1900", "-f", "json")

    answer = json.loads(result.stdout)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert answer.keys() == FIELDS
    assert answer["status"] == "proven"
    assert len(answer["choice"]) == 6
    assert answer["infeasibility"] is None


def test_yaml_and_csv_give_the_same_choice(nas: Nas, asked: list[object], tmp_path: Path) -> None:
    table = write_csv(tmp_path / "library.csv", puzzle_data(6, 5))
    limit = ("--max", f"{MEMORY}=3000")

    first = nas(*asked, *limit, "-f", "yaml")
    second = nas("solve", "--library", table, "--objective", "kl_div", *limit, "-f", "json")

    assert yaml.safe_load(first.stdout)["choice"] == json.loads(second.stdout)["choice"]


def test_the_table_says_what_is_chosen_and_what_a_budget_is_worth(
    nas: Nas, asked: list[object]
) -> None:
    result = nas(*asked, "--max", f"{MEMORY}=3000")

    assert result.exit_code == 0
    assert result.stdout.startswith("proven: ")
    assert "<= 3000" in result.stdout
    assert f"1 MiB more of {MEMORY} would lower the loss by" in result.stdout
    assert "layer_* " in result.stdout


def test_several_solutions_are_a_list(nas: Nas, asked: list[object]) -> None:
    options = ("--max", f"{MEMORY}=3000", "--solutions", 3, "--differ", 2, "--time-limit", 30)

    as_json, as_table = nas(*asked, *options, "-f", "json"), nas(*asked, *options)

    assert [a["status"] for a in json.loads(as_json.stdout)] == ["proven"] * 3
    assert as_table.stdout.count("proven") == 3


def test_joint_solutions_say_what_their_sum_is(nas: Nas, asked: list[object]) -> None:
    options = ("--max", f"{MEMORY}=3000", "--solutions", 2, "--differ", 4, "--diverse", "jointly")

    as_json, as_table = nas(*asked, *options, "-f", "json"), nas(*asked, *options)

    joint = json.loads(as_json.stdout)
    assert joint.keys() == JOINT_FIELDS
    assert [answer.keys() for answer in joint["solutions"]] == [FIELDS, FIELDS]
    assert as_table.stdout.startswith("proven: sum ")
    assert "found greedily: sum " in as_table.stdout
    assert "from the best single one" in as_table.stdout
    assert "incumbent" not in as_table.stdout


def test_a_sweep_is_a_list_and_a_table_with_bars(nas: Nas, asked: list[object]) -> None:
    options = ("--sweep", f"{MEMORY}=1000:5000:6")

    as_json, as_table = nas(*asked, *options, "-f", "json"), nas(*asked, *options)

    points = json.loads(as_json.stdout)
    assert [p["objective"] for p in points] == sorted(
        (p["objective"] for p in points), reverse=True
    )
    assert f"limit of {MEMORY}" in as_table.stdout
    assert "####" in as_table.stdout


def test_two_sweeps_are_a_list_and_a_heat_map(nas: Nas, asked: list[object]) -> None:
    options = ("--sweep", f"{MEMORY}=1000:5000:6", "--sweep", "runtime_ms=500:3000:4")

    as_json, as_table = nas(*asked, *options, "-f", "json"), nas(*asked, *options)

    points = json.loads(as_json.stdout)
    assert all(len(point["budgets"]) == 2 and point["status"] == "proven" for point in points)
    assert "of 24 points left out" in as_json.stderr
    assert "limit of runtime_ms" in as_table.stdout
    assert f"loss by {MEMORY} (down) and runtime_ms (across)" in as_table.stdout
    assert "blank: nothing feasible found" in as_table.stdout


@pytest.mark.parametrize("several", [(), ("--solutions", 2)])
def test_infeasible_exits_with_3_and_the_reason(
    nas: Nas, asked: list[object], several: tuple[object, ...]
) -> None:
    result = nas(*asked, "--max", f"{MEMORY}=1", *several, "-f", "json")

    assert result.exit_code == 3
    assert f"no choice meets the budget {MEMORY}" in result.stderr
    assert "cheapest way out" in result.stderr
    found = json.loads(result.stdout)
    answer = found[0] if several else found
    assert answer["status"] == "infeasible"
    assert answer["infeasibility"]["conflict"] == [MEMORY]
    assert answer["infeasibility"]["tightest"][MEMORY] > 1
    assert answer["infeasibility"]["relaxation"]["limit"] > 1


def test_infeasible_as_a_table_leaves_stdout_empty(nas: Nas, asked: list[object]) -> None:
    result = nas(*asked, "--max", f"{MEMORY}=1")

    assert (result.exit_code, result.stdout) == (3, "")


def test_a_damaged_library_is_a_failure_and_a_wrong_path_a_mistake(
    nas: Nas, asked: list[object], tmp_path: Path
) -> None:
    data = puzzle_data(2, 2)
    data["layer_1"]["v0"]["metrics"]["kl_div"] = float("nan")
    damaged = write_json(tmp_path / "bad.json", data)

    broken = nas("solve", "--library", damaged, "--objective", "metrics.kl_div")
    unknown = nas(*asked, "--max", "stats.memory_mb=3")
    absent = nas("solve", "--library", "none.json", "--objective", "x")

    assert broken.exit_code == 1
    assert "slot layer_1, variant v0: metrics.kl_div is nan" in broken.stderr
    assert unknown.exit_code == 2
    assert f"did you mean {MEMORY}?" in unknown.stderr
    assert absent.exit_code == 2
    assert "none.json: no such file" in absent.stderr


def test_confidence_says_what_is_certain_and_what_loss_to_expect(
    nas: Nas, asked: list[object]
) -> None:
    options = ("--max", f"{MEMORY}=3000", "--confidence", 0.9, "--noise", 0.05, "--resamples", 20)

    as_json, as_table = nas(*asked, *options, "-f", "json"), nas(*asked, *options)

    answer = json.loads(as_json.stdout)
    found = answer["uncertainty"]
    assert found["slots"].keys() == answer["choice"].keys()
    assert found["measured"]["estimate"] == pytest.approx(answer["objective"])
    assert found["expected"]["low"] < found["expected"]["estimate"] < found["expected"]["high"]
    assert "loss to expect" in as_table.stdout
    assert "20 solves of losses drawn anew" in as_table.stdout


@pytest.mark.parametrize(
    "several",
    [
        ("--solutions", 3, "--max", f"{MEMORY}=3000"),
        ("--sweep", f"{MEMORY}=1000:5000:6"),
        ("--solutions", 2, "--diverse", "jointly", "--max", f"{MEMORY}=3000"),
    ],
)
def test_every_listed_answer_has_an_interval_and_one_for_its_distance_from_the_first(
    nas: Nas, asked: list[object], several: tuple[object, ...]
) -> None:
    options = (*several, "--confidence", 0.9, "--noise", 0.05)

    as_json, as_table = nas(*asked, *options, "-f", "json"), nas(*asked, *options)

    found = json.loads(as_json.stdout)
    first, *others = found["solutions"] if "jointly" in several else found
    assert first["measured"]["estimate"] == pytest.approx(first["objective"])
    assert first["measured"]["low"] < first["objective"] < first["measured"]["high"]
    assert first["difference"] is None
    for answer in others:
        more = answer["difference"]
        assert more["estimate"] == pytest.approx(answer["objective"] - first["objective"])
        assert more["low"] < more["estimate"] < more["high"]
    assert "beyond the first" in as_table.stdout
    assert "intervals at 90 % confidence, by a noise of 5 %" in as_table.stderr


def test_confidence_needs_scores_or_a_stated_noise(nas: Nas, asked: list[object]) -> None:
    result = nas(*asked, "--max", f"{MEMORY}=3000", "--confidence", 0.9)

    assert result.exit_code == 2
    assert "such as --noise 0.05" in result.stderr


def test_confidence_in_what_is_infeasible_is_the_reason_alone(
    nas: Nas, asked: list[object]
) -> None:
    result = nas(*asked, "--max", f"{MEMORY}=1", "--confidence", 0.9, "--noise", 0.05)

    assert (result.exit_code, result.stdout) == (3, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give one of RUN and --library, not neither"),
        (("runs/x", "--library", "a.json"), "give one of RUN and --library, not both"),
        (("runs/x", "--max", "a=1"), "--max goes with --library only"),
        (("runs/x", "--solver", "mip"), "--solver goes with --library only"),
        (("--library", "a.json", "--set", "seed=1"), "--set goes with RUN only"),
        (("runs/x", "--confidence", "0.9", "--noise", "0.05"), "--noise goes with --library only"),
        (("runs/x", "--resamples", "50"), "--resamples goes with --confidence only"),
        (("runs/x", "--confidence", "90"), "--confidence 90: give one from 0.5 to 0.999"),
        (("--library", "a.json", "--noise", "0.05"), "give --confidence, too"),
        (
            ("--library", "a.json", "--confidence", "0.9", "--resamples", "9", "--solutions", "2"),
            "--resamples judges one answer",
        ),
        (
            ("runs/x", "--confidence", "0.9", "--resamples", "9", "--sweep", "memory_mib=1:2:3"),
            "--resamples judges one answer",
        ),
        (
            ("--library", "a.json", "--confidence", "0.9", "--solver", "greedy"),
            "--confidence judges an optimum",
        ),
        (("--library", "a.json", "--solutions", "0"), "--solutions"),
    ],
)
def test_what_does_not_go_together_is_refused(
    nas: Nas, arguments: tuple[str, ...], words: str
) -> None:
    result = nas("solve", *arguments)

    assert result.exit_code == 2
    assert words in result.stderr
