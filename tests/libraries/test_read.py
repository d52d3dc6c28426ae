"""Every layout gives the same library, and a damaged file is refused by slot and variant."""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from nas.errors import ArtifactError, ConfigError
from nas.ir.problem import Budget, Option, Problem
from nas.libraries import Query, read_library, solve_library
from nas.libraries._problem import make_problem
from tests.libraries.files import puzzle_data, write_csv, write_json

QUERY = Query.parse(objective="metrics.kl_div", most=["stats.memory_mib=1500"])
GOOD = puzzle_data(3, 3)


def refusal(path: Path, query: Query = QUERY) -> str:
    with pytest.raises(ArtifactError) as caught:
        make_problem(read_library(path), query)
    return str(caught.value)


def test_json_and_csv_give_the_same_problem(tmp_path: Path) -> None:
    from_json = read_library(write_json(tmp_path / "a.json", GOOD))
    from_csv = read_library(write_csv(tmp_path / "a.csv", GOOD))

    assert make_problem(from_json, QUERY) == make_problem(from_csv, QUERY)
    assert set(from_json.columns) == {
        *("stats.memory_mib", "stats.runtime_ms", "stats.kernel", "metrics.kl_div"),
    }


def test_the_problem_of_a_run_keeps_its_budgets_and_fixed_parts(tmp_path: Path) -> None:
    options = (
        Option(variant="teacher", loss=0.0, costs={"prefill_ms": 4.0, "memory_mib": 9.0}),
        Option(variant="skip", loss=0.5, costs={"prefill_ms": 0.0, "memory_mib": 0.0}),
    )
    budgets = (Budget(name="speedup.prefill", cost="prefill_ms", limit=9.0, fixed=1.0),)
    problem = Problem(slots={"layers.0.ffn": options, "layers.1.ffn": options}, budgets=budgets)
    path = tmp_path / "problem.json"
    path.write_text(problem.model_dump_json())

    library = read_library(path)
    same = solve_library(library, Query()).found
    tighter = solve_library(library, Query.parse(most=["prefill_ms=8"]))
    beside = solve_library(library, Query.parse(most=["memory_mib=10"]))

    assert make_problem(library, Query()).budgets == budgets
    assert not isinstance(same, list)
    assert (same.objective, same.costs) == (0.0, {"prefill_ms": 9.0})
    assert not isinstance(tighter.found, list)
    assert (tighter.found.objective, tighter.found.costs) == (0.5, {"prefill_ms": 5.0})
    assert tighter.notes == ()
    assert not isinstance(beside.found, list)
    assert [b.name for b in beside.found.budgets] == ["speedup.prefill", "memory_mib"]
    assert "memory_mib amounts to outside the slots" in beside.notes[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (10**400, "1000"),
        (None, "null"),
        ("12", "'12'"),
        (True, "True"),
        ([1.0], "[1.0]"),
    ],
)
def test_a_value_that_is_no_finite_number_is_named(
    tmp_path: Path, value: object, words: str
) -> None:
    data = copy.deepcopy(GOOD)
    data["layer_1"]["v2"]["stats"]["memory_mib"] = value

    message = refusal(write_json(tmp_path / "bad.json", data))

    assert f"bad.json: slot layer_1, variant v2: stats.memory_mib is {words}" in message


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    del data["layer_2"]["v0"]["metrics"]["kl_div"]

    expected = "slot layer_2, variant v0: metrics.kl_div is missing"

    assert expected in refusal(write_json(tmp_path / "bad.json", data))


def test_columns_that_are_not_asked_for_may_be_broken(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    data["layer_2"]["v0"]["stats"]["runtime_ms"] = "unknown"

    make_problem(read_library(write_json(tmp_path / "a.json", data)), QUERY)


def test_an_unknown_column_offers_the_nearest(tmp_path: Path) -> None:
    library = read_library(write_json(tmp_path / "a.json", GOOD))

    with pytest.raises(ConfigError, match=r"--objective metrics.kl_dvi.*mean metrics.kl_div\?"):
        make_problem(library, Query.parse(objective="metrics.kl_dvi"))
    with pytest.raises(ConfigError, match=r"--min stats.power: .* no such column"):
        make_problem(library, Query.parse(objective="kl_div", least=["stats.power=1"]))
    with pytest.raises(ConfigError, match=r"--objective: say which column"):
        make_problem(library, Query())
    with pytest.raises(ConfigError, match="both the column"):
        make_problem(
            library,
            Query.parse(objective="kl_div", most=["memory_mib=1"], least=["stats.memory_mib=0"]),
        )


def test_an_ambiguous_end_of_a_path_is_refused(tmp_path: Path) -> None:
    data = {"0": {"a": {"stats": {"x": 1.0}, "metrics": {"x": 2.0}}}}
    library = read_library(write_json(tmp_path / "a.json", data))

    with pytest.raises(ConfigError, match=r"stats.x, metrics.x; write the whole path"):
        make_problem(library, Query(objective="x"))


ROW = '{"stats": {"memory_mib": 1}, "metrics": {"kl_div": 1}}'
TORN = json.dumps(GOOD)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("{}", "the library is empty"),
        ("[]", "holds no object"),
        ("3", "holds no object"),
        ('{"7": {}}', "slot 7 has no variant"),
        ('{"7": []}', "slot 7 is no object"),
        ('{"7": {"a": {}}}', "slot 7, variant a is empty"),
        ('{"7": {"a": 4}}', "slot 7, variant a is no object"),
        (f'{{"7": {{"a": {ROW}, "a": {ROW}}}}}', "slot 7: variant a stands there twice"),
        (f'{{"7": {{"a": {ROW}}}, "7": {{"a": {ROW}}}}}', "slot 7 stands there twice"),
        ('{"7": {"a": {"stats": {"x": 1, "x": 2}}}}', "variant a: stats.x stands there twice"),
        (TORN[: TORN.index('"v1"', TORN.index("layer_2")) + 30], "(slot layer_2, variant v1)"),
        ('{"7": {"a": {"stats": {"x": 1}}}', "line 1, column"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_damaged_json_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)

    message = refusal(path)

    assert message.startswith(f"{path}")
    assert words in message


HEAD = "slot,variant,stats.memory_mib,metrics.kl_div\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD, "the library is empty"),
        ("a,b\n1,2\n", "it must name the columns"),
        ("slot,variant,x,x\n", "column x stands there twice"),
        (
            HEAD.replace(",", ";") + "0;a;1;2\n",
            "separated by semicolons; separate the cells by com",
        ),
        (HEAD.replace(",", "\t") + "0\ta\t1\t2\n", "separated by tabs; separate the cells by com"),
        (HEAD + "0,a,1,2\n0,a,1,2\n", "line 3 (slot 0, variant a): the variant stands there twice"),
        (HEAD + "0,a,1,2\n0,b,1\n", "line 3 (slot 0, variant b): 3 cells, 4 columns"),
        (HEAD + "0,a,1,2,3\n", "5 cells, 4 columns"),
        (HEAD + "0,,1,2\n", "line 2 (slot 0, variant ?): slot or variant is empty"),
        (HEAD + '0,a,1,"2', "line 2"),
        (HEAD + '0,a,1,2\n0,b,1,"2', "(after slot 0, variant a)"),
        (HEAD + "0,a,nan,2\n", "slot 0, variant a: stats.memory_mib is nan"),
        (HEAD + "0,a,1_0,2\n", "slot 0, variant a: stats.memory_mib is '1_0'"),
        (HEAD + "0,a,1,2\n0,b,,2\n", "slot 0, variant b: stats.memory_mib is missing"),
    ],
)
def test_damaged_csv_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)

    assert words in refusal(path)


@pytest.mark.parametrize("query", [QUERY, Query(objective="kl_div", solutions=2)])
def test_a_last_line_that_is_not_ended_may_be_torn(tmp_path: Path, query: Query) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEAD + "0,a,1,2\n1,a,1,2\n0,b,1,0.")

    answers = solve_library(read_library(path), query)

    assert answers.notes[0] == (
        f"{path}: the last line (slot 0, variant b) is not ended; if the file is torn, its last "
        "value is too"
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n  "])
def test_a_last_line_that_is_ended_is_whole(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes((HEAD + "0,a,1,2" + end).encode())

    assert read_library(path).notes == ()


def problem_file(**changes: Any) -> dict[str, Any]:
    option = {"variant": "a", "loss": 0.0, "costs": {"ms": 1.0}}
    return {"slots": {"s": [option]}, "budgets": [], **changes}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (problem_file(slots={}), "the problem is empty"),
        (problem_file(slots={"s": []}), "slot s has no variant"),
        (problem_file(slots=[{"variant": "a"}]), "slots is no object"),
        (problem_file(slots={"s": problem_file()["slots"]["s"], "t": {}}), "slot t is no list"),
        (problem_file(slots={"s": {"a": {"loss": 1}}}), "slot s is no list"),
        (problem_file(budget=[]), "budget is no part of a problem; did you mean budgets?"),
        (problem_file(comment="x"), "comment is no part of a problem; it holds slots, budgets"),
        ({"slot": problem_file()["slots"], "budgets": []}, "slot is no part of a problem; did you"),
        ({"budgets": []}, "slots is missing"),
        (problem_file(slots={"s": [{"loss": 1}]}), "slot s: option 0 names no variant"),
        (problem_file(slots={"s": [{"variant": "a", "loss": 1}]}), "variant a: has variant, loss;"),
        (problem_file(slots={"s": problem_file()["slots"]["s"] * 2}), "variant a stands there twi"),
        (problem_file(budgets={}), "budgets is no list"),
        (problem_file(scores=[]), "scores is no object"),
        (problem_file(scores={"s/z": [0.1, 0.2]}), "scores of s/z: there is no such slot/variant"),
        (problem_file(scores={"s/a": [0.1, None]}), "scores of s/a: give a list of finite numbers"),
        (problem_file(scores={"s/a": [0.1, math.inf]}), "scores of s/a: give a list of finite"),
        (problem_file(scores={"s/a": []}), "scores of s/a: give a list of finite numbers"),
        (problem_file(scores={"s/a": [0.1, 0.2]}), "scores of s/a: their mean is 0.15, its loss 0"),
        (problem_file(scores={"s/a": [1e308] * 3}), "scores of s/a: their mean is inf, its loss 0"),
        (problem_file(budgets=[{"name": "ms", "cost": "ms"}]), "budgets.0.limit"),
        (
            problem_file(budgets=[{"name": "b", "cost": "ms", "limit": 1.0}] * 2),
            "budgets.1: b stands there twice",
        ),
    ],
)
def test_a_damaged_problem_is_refused(tmp_path: Path, data: object, words: str) -> None:
    assert words in refusal(write_json(tmp_path / "problem.json", data), Query())


def test_a_budget_on_the_end_of_a_name_gives_way_to_a_limit_on_all_of_it(tmp_path: Path) -> None:
    slots = {"s": [{"variant": "a", "loss": 0.0, "costs": {"stats.ms": 3.0}}]}
    budgets = [{"name": "b", "cost": "ms", "limit": 9.0, "fixed": 1.0}]
    path = write_json(tmp_path / "problem.json", {"slots": slots, "budgets": budgets})

    answer = solve_library(read_library(path), Query.parse(most=["stats.ms=4"])).found

    assert not isinstance(answer, list)
    assert [b.name for b in answer.budgets] == ["stats.ms"]
    assert answer.costs == {"stats.ms": 4.0}


def test_scores_of_other_sequences_than_most_have_are_named(tmp_path: Path) -> None:
    slots = {
        slot: [{"variant": v, "loss": 0.5, "costs": {}} for v in ("a", "b")] for slot in ("s", "t")
    }
    scores = {"s/a": [0.5, 0.5], "t/a": [0.5], "s/b": [0.5, 0.5], "t/b": [0.5, 0.5]}
    path = write_json(tmp_path / "problem.json", {"slots": slots, "scores": scores})

    message = refusal(path, Query())

    assert message.startswith(f"{path}: scores of t/a: length 1, of others 2")


def test_layers_may_be_called_as_the_parts_of_a_problem(tmp_path: Path) -> None:
    names = dict(zip(GOOD, ("slots", "budgets", "scores"), strict=True))
    path = write_json(tmp_path / "a.json", {names[layer]: GOOD[layer] for layer in GOOD})

    assert tuple(read_library(path).rows) == ("slots", "budgets", "scores")


def test_a_path_that_is_no_file_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_library(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="is a folder"):
        read_library(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"{\xff")

    assert "byte 1 is no UTF-8" in refusal(path)


def test_a_large_library_is_read_at_once(tmp_path: Path) -> None:
    path = write_json(tmp_path / "large.json", puzzle_data(80, 378))
    began = time.process_time()

    problem = make_problem(read_library(path), QUERY)

    assert sum(map(len, problem.slots.values())) == 80 * 378
    assert time.process_time() - began < 3.0
