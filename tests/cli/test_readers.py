"""`ls`, `status`, `show`, `diff` in their three formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from nas.report import Summary
from nas.run import RunDirectory
from tests.cli.conftest import Nas
from tests.cli.runs import add_summary, make_run
from tests.report.example_summary import example_summary


@pytest.fixture
def run(config: Path, tmp_path: Path) -> RunDirectory:
    return make_run(tmp_path / "runs" / "half", config)


def test_ls_without_a_kind_lists_everything(nas: Nas, run: RunDirectory) -> None:
    listing = json.loads(nas("ls", "-f", "json").stdout)

    assert list(listing) == [
        *("spaces", "hardware", "solvers", "strategies", "meters", "passes", "runs")
    ]
    assert {"local", "rtx4090"} <= {entry["name"] for entry in listing["hardware"]}
    assert {entry["name"] for entry in listing["solvers"]} >= {"mip", "greedy"}
    assert {e["name"] for e in listing["meters"]} == {"onnxruntime", "torch", "roofline", "table"}
    assert all(entry["about"] for entries in listing.values() for entry in entries)
    assert Path(listing["runs"][0]["name"]).name == run.root.name


def test_ls_goes_on_where_a_run_cannot_be_read(nas: Nas, run: RunDirectory, tmp_path: Path) -> None:
    for name, marker in (("a-torn", "{"), ("b-foreign", '{"format": 99}'), ("c-other", "[]")):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "run.json").write_text(marker)
    (tmp_path / "runs" / "d-folder" / "run.json").mkdir(parents=True)

    listing = json.loads(nas("ls", "-f", "json").stdout)

    abouts = {Path(entry["name"]).name: entry["about"] for entry in listing["runs"]}
    reasons = [abouts.pop(name) for name in ("a-torn", "b-foreign", "c-other", "d-folder")]
    assert all(reason.startswith("unreadable: ") for reason in reasons)
    assert "format 99" in reasons[1]
    assert list(abouts) == [run.root.name]
    assert listing["solvers"]


def test_ls_of_one_kind_as_a_table(nas: Nas) -> None:
    result = nas("ls", "passes")

    assert result.stdout.splitlines()[2].split()[0] == "space"
    assert "hardware" not in result.stdout


def test_json_and_yaml_say_the_same(nas: Nas, run: RunDirectory) -> None:
    as_json = json.loads(nas("status", run.root, "-f", "json").stdout)
    as_yaml = yaml.safe_load(nas("status", run.root, "--format", "yaml").stdout)

    assert as_json == as_yaml


def test_status_of_a_run_that_stopped_halfway(nas: Nas, run: RunDirectory) -> None:
    status = json.loads(nas("status", run.root, "-f", "json").stdout)

    passes = {step["name"]: step for step in status["passes"]}
    assert status["state"] == "unfinished"
    assert passes["measure"]["state"] == "done"
    assert passes["build"] == {
        "name": "build",
        "title": "make every candidate from the teacher",
        "state": "under way",
        "units": 2,
        "expected": 4,
        "seconds": 60.0,
    }
    assert passes["score"]["state"] == "to do"
    assert "2 of 4" in nas("status", run.root).stdout


def _states(nas: Nas, run: RunDirectory) -> dict[str, str]:
    status = json.loads(nas("status", run.root, "-f", "json").stdout)
    return {step["name"]: step["state"] for step in status["passes"]}


def test_blocks_of_baselines_made_while_building_are_not_solving(
    nas: Nas, run: RunDirectory
) -> None:
    run.store("solve/uniform-128", "k")
    run.store("solve/uniform/layers.0.ffn/w128", "k")

    states = _states(nas, run)

    assert [states[name] for name in ("build", "score", "solve")] == ["under way", "to do", "to do"]
    (listed,) = json.loads(nas("ls", "runs", "-f", "json").stdout)["runs"]
    assert listed["about"] == "unfinished, 3 of 13 passes done"


def test_pruning_is_under_way_until_it_has_decided(nas: Nas, run: RunDirectory) -> None:
    run.store("prune/draft/layers.0.ffn/skip", "k")
    before = _states(nas, run)
    run.store("prune/survivors", "k")
    after = _states(nas, run)

    assert (before["prune"], before["build"]) == ("under way", "under way")
    assert (after["prune"], after["build"]) == ("done", "under way")


def test_a_pass_that_lacks_units_is_not_done_for_a_later_one(nas: Nas, run: RunDirectory) -> None:
    run.store("score/layers.0.ffn", "k")
    run.store("solve/k", "k")

    states = _states(nas, run)

    assert states["prune"] == "done"
    assert states["build"] == states["score"] == "under way"
    assert states["solve"] == "done"


def test_status_of_a_run_that_another_process_holds(nas: Nas, run: RunDirectory) -> None:
    with run.locked():
        held = nas("status", run.root).stdout
    free = nas("status", run.root).stdout

    # a long path breaks the heading
    assert ": running" in " ".join(held.split())
    assert ": unfinished" in " ".join(free.split())


def test_status_compares_the_forecast(nas: Nas, run: RunDirectory) -> None:
    sizes = {"disk_mib": 3.0, "memory_mib": 700.0, "transfer_mib": 0.0}
    rows = [
        {"pass_name": name, "units": 2, "seconds": 90.0, **sizes} for name in ("build", "score")
    ]
    run.path("plan.json").write_text(json.dumps({"rows": rows}))
    run.event("pass", name="build", seconds=60.0, units=2, peak_memory_mib=512.0)

    build, score = json.loads(nas("status", run.root, "-f", "json").stdout)["forecast"]
    lines = nas("status", run.root).stdout.splitlines()

    assert (build["forecast_s"], build["actual_s"], build["error_percent"]) == (90.0, 60.0, 50.0)
    assert score["actual_s"] is None
    at = next(i for i, line in enumerate(lines) if line.startswith("forecast against actual"))
    compared = [" ".join(line.split()) for line in lines[at + 2 : at + 4]]
    assert compared == [
        "build 1 min 30 s 1 min 00 s +50 % 3 0 700 512",
        "score 1 min 30 s 3 700",
    ]


def test_status_names_files_that_are_gone(nas: Nas, run: RunDirectory) -> None:
    run.path("costs", "costs.json").unlink()

    assert "costs/costs.json" in nas("status", run.root).stdout


def test_show_a_run_without_a_summary_says_what_writes_it(nas: Nas, run: RunDirectory) -> None:
    result = nas("show", run.root)

    assert result.exit_code == 1
    assert "nas report" in result.stderr


def test_show_a_run_as_json_is_its_summary(nas: Nas, run: RunDirectory) -> None:
    add_summary(run)

    shown = nas("show", run.root, "-f", "json").stdout

    assert Summary.model_validate_json(shown) == example_summary()


def test_show_a_run_as_tables(nas: Nas, run: RunDirectory) -> None:
    add_summary(run)

    text = nas("show", run.root).stdout

    assert "student against teacher" in text
    assert "budgets" in text
    assert all(task.name in text for task in example_summary().tasks)


def test_the_result_fits_a_terminal_of_80_columns(
    nas: Nas, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_summary(run)
    monkeypatch.setenv("COLUMNS", "80")

    lines = nas("show", run.root).stdout.splitlines()

    assert max(map(len, lines)) <= 80
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
    assert lines[1].split() == ["model", "Teacher", "Student", "Uniform", "FFN", "Depth", "cut"]
    assert lines[2].startswith("prefill tok/s")


def test_show_a_slot_marks_the_chosen_block(nas: Nas, run: RunDirectory) -> None:
    add_summary(run)
    slot = example_summary().slots[1]

    lines = nas("show", run.root, "--slot", slot.id).stdout.splitlines()

    marked = [line.split()[1] for line in lines if line.startswith("*")]
    assert marked == [slot.chosen]
    assert len(lines) == 2 + len(slot.options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hardware", "rtx409"], "did you mean rtx4090?"),
        (["space", "decodr"], "did you mean decoder?"),
        (["hardware"], "`nas ls hardware` lists them"),
        (["space"], "`nas ls spaces` lists them"),
        (["space", "decoder", "--slot", "layers.0.ffn"], "only a run has slots"),
        (["runs/half", "layers.0.ffn"], "did you mean --slot layers.0.ffn?"),
        (["runs/half", "--slot", "layers.0.fn"], "did you mean layers.0.ffn?"),
    ],
)
def test_show_of_a_wrong_name_says_what_was_meant(
    nas: Nas, run: RunDirectory, arguments: list[str], message: str
) -> None:
    add_summary(run)

    result = nas("show", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_show_hardware_gives_sources(nas: Nas) -> None:
    assert "NVIDIA H100 data sheet" in nas("show", "hardware", "h100-sxm").stdout


def test_show_hardware_tells_the_link_or_that_there_is_none(nas: Nas) -> None:
    assert "kind NVLink 4, gb_per_s 900" in nas("show", "hardware", "h100-sxm").stdout
    lines = nas("show", "hardware", "x86-avx2").stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("link")] == [
        ["link", "none", "none;", "one", "processor"]
    ]


def test_show_space_is_yaml_that_makes_the_same_space(nas: Nas) -> None:
    from search_spaces import SearchSpace, load_space

    shown = yaml.safe_load(nas("show", "space", "decoder").stdout)

    assert SearchSpace.model_validate(shown) == load_space("decoder")


def test_diff_shows_configuration_results_and_blocks(
    nas: Nas, run: RunDirectory, config: Path, tmp_path: Path
) -> None:
    other = make_run(tmp_path / "runs" / "other", config, ["budgets.speedup=2", "seed=1"])
    summary = example_summary()
    first, *rest = summary.models
    smaller = first.model_copy(update={"params_m": first.params_m / 2})
    add_summary(run, summary)
    add_summary(other, summary.model_copy(update={"models": (smaller, *rest)}))

    found = json.loads(nas("diff", run.root, other.root, "-f", "json").stdout)
    text = nas("diff", run.root, other.root).stdout

    assert found["config"] == [
        {"key": "budgets.speedup", "left": 1.5, "right": 2},
        {"key": "seed", "left": 0, "right": 1},
    ]
    assert [change["key"] for change in found["results"]] == [f"{first.name}.params_m"]
    assert found["slots"] == []
    assert "-50.0 %" in text


def test_diff_of_a_run_with_itself(nas: Nas, run: RunDirectory) -> None:
    add_summary(run)

    assert nas("diff", run.root, run.root).stdout == "no difference\n"


def test_diff_without_summaries_says_what_writes_them(nas: Nas, run: RunDirectory) -> None:
    assert f"nas report {run.root}" in nas("diff", run.root, run.root).stdout
