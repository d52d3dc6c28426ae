"""`nas proxies`: what it lists, and verdicts from files and from networks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from nas.proxies import list_proxies
from tests.cli.conftest import Nas

SPACE = """builder: cifar_resnet
description: tiny
blocks: [[1, 2], [1], [1, 2]]
widths: [4, 6, 8]
classes: 3
image_size: 8
"""
KEYS = ("1-1-1", "1-1-2", "2-1-1", "2-1-2")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "known.csv"
    rows = zip(KEYS, (60.0, 65.0, 62.0, 67.0), (1.0, 2.0, 1.05, 2.1), strict=True)
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([("architecture", "accuracy", "params_m"), *rows])
    return path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text("architecture,good,bad\n1-1-1,1,4\n1-1-2,3,2\n2-1-1,2,3\n2-1-2,4,\n")
    return path


def test_lists_what_every_proxy_needs(nas: Nas) -> None:
    found = json.loads(nas("proxies", "ls", "-f", "json").stdout)

    assert [card["name"] for card in found] == list(list_proxies())
    diswot = next(card for card in found if card["name"] == "diswot")
    assert diswot["needs"] == ["data", "labels", "teacher"]
    assert diswot["cost"] == "backward"
    assert "CVPR 2023" in diswot["source"]
    assert "synflow" in nas("proxies", "ls").stdout


def test_judges_scores_from_a_file(nas: Nas, table: Path, scores: Path) -> None:
    call = ["proxies", "bench", table, "--scores", scores, "--size", "params_m", "--top", 1]
    result = nas(*call, "--combine", "good+params_m", "--resamples", 20, "-f", "json")

    verdict = json.loads(result.stdout)
    assert result.exit_code == 0
    by_name = {one["proxy"]: one for one in verdict["judgements"]}
    assert list(by_name) == ["params_m", "good", "bad", "ranks:good+params_m"]
    assert by_name["good"]["spearman"]["value"] == pytest.approx(1)
    assert by_name["bad"]["undefined"] == 1
    assert by_name["bad"]["regret"] == {"1": 7.0}
    assert verdict["matched_pairs"] == 2


def test_the_table_names_the_size_that_is_held(nas: Nas, table: Path, scores: Path) -> None:
    out = nas("proxies", "bench", table, "--scores", scores, "--size", "params_m").stdout

    assert "params_m (baseline)" in out
    assert "2 pairs within 10 %" in out


def test_a_combination_is_judged_on_groups_that_did_not_choose_it(nas: Nas, tmp_path: Path) -> None:
    path, scores = tmp_path / "known.csv", tmp_path / "scores.csv"
    rows = [(f"n{i}", 50 + i, i % 5 + 1, f"g{i // 2}", i // 3, i % 3) for i in range(24)]
    heads = ("architecture", "accuracy", "params", "class", "high", "low")
    for file, columns in ((path, (0, 1, 2, 3)), (scores, (0, 4, 5))):
        with file.open("w", newline="") as handle:
            kept = [[row[i] for i in columns] for row in (heads, *rows)]
            csv.writer(handle).writerows(kept)
    call = ["proxies", "bench", path, "--scores", scores, "--size", "params", "--group", "class"]

    verdict = json.loads(nas(*call, "--choose", 0.5, "--resamples", 0, "-f", "json").stdout)

    assert (verdict["networks"], verdict["groups"]) == (12, 6)
    assert [one["proxy"] for one in verdict["judgements"]][:3] == ["params", "high", "low"]
    assert "high" in verdict["judgements"][3]["proxy"]


def test_without_scores_it_says_how_to_get_some(nas: Nas, table: Path) -> None:
    result = nas("proxies", "bench", table, "--size", "params_m")

    assert result.exit_code == 2
    assert "--scores FILE" in result.stderr


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.npz"
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(12) % 3)
    return path


def test_builds_and_scores_the_networks_of_a_space(
    nas: Nas, table: Path, pictures: Path, tmp_path: Path
) -> None:
    space, log = tmp_path / "space.yaml", tmp_path / "log.jsonl"
    space.write_text(SPACE)
    call = ["proxies", "bench", table, "--space", space, "--data", pictures, "--batch", 9]
    call += ["--proxy", "nwot", "--proxy", "synflow", "--controls", "--log", log, "-f", "json"]

    first = nas(*call, "--resamples", 0)
    lines = log.read_text().splitlines()
    again = nas(*call, "--resamples", 0)

    assert first.exit_code == 0, first.stderr
    verdict = json.loads(first.stdout)
    names = [one["proxy"] for one in verdict["judgements"]]
    assert names == ["params", "flops", "nwot", "synflow", "nwot (noise pictures)"]
    assert verdict["size"] == "params"
    assert json.loads(again.stdout) == verdict
    assert log.read_text().splitlines() == lines
    # SynFlow grows with every block.
    entries = [entry for entry in map(json.loads, lines[1:]) if entry["what"] == "synflow"]
    flow = {entry["architecture"]: entry["values"][0] for entry in entries}
    assert flow["1-1-1"] < flow["1-1-2"] < flow["2-1-2"]


def test_an_architecture_of_another_space_is_named(
    nas: Nas, table: Path, pictures: Path, tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(SPACE.replace("[[1, 2]", "[[1]"))
    call = ["proxies", "bench", table, "--space", space, "--data", pictures, "--proxy", "nwot"]

    result = nas(*call)

    assert result.exit_code == 2
    assert "2-1-1 is no architecture of the space" in result.stderr


@pytest.fixture
def scoring(table: Path, pictures: Path, tmp_path: Path) -> list[object]:
    (tmp_path / "space.yaml").write_text(SPACE)
    call = ["proxies", "bench", table, "--space", tmp_path / "space.yaml", "--data", pictures]
    return [*call, "--batch", 9, "--resamples", 0]


def test_a_log_is_of_the_space_and_teacher_that_the_files_hold(
    nas: Nas, scoring: list[object], tmp_path: Path
) -> None:
    """The same names, with something else behind them."""
    from safetensors.torch import save_file

    from nas.networks import resnet_from_key, resnet_state

    def write_teacher(seed: int) -> None:
        state = resnet_state(resnet_from_key("1-1-1", 3).build(seed))
        save_file(state, tmp_path / "teacher.safetensors")

    write_teacher(0)
    call = [*scoring, "--proxy", "teacher_cka", "--log", tmp_path / "log.jsonl"]
    call += ["--teacher", tmp_path / "teacher.safetensors"]
    assert nas(*call).exit_code == 0

    write_teacher(1)
    other = nas(*call)
    assert (other.exit_code, "made with another teacher;" in other.stderr) == (2, True)
    write_teacher(0)
    assert nas(*call).exit_code == 0

    (tmp_path / "space.yaml").write_text(SPACE.replace("[4, 6, 8]", "[4, 6, 10]"))
    other = nas(*call)
    assert (other.exit_code, "made with another space;" in other.stderr) == (2, True)


def test_a_fresh_teacher_has_the_classes_of_the_space(nas: Nas, scoring: list[object]) -> None:
    options = ("--teacher", "cifar_resnet:1-1-1", "--other-teacher", "cifar_resnet:2-1-1")
    result = nas(*scoring, "--proxy", "diswot", *options, "--controls")

    assert result.exit_code == 0, result.stderr


def test_what_does_not_fit_the_space_is_refused(
    nas: Nas, scoring: list[object], pictures: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    from nas.networks import resnet_from_key, resnet_state

    teacher = tmp_path / "ten.safetensors"
    save_file(resnet_state(resnet_from_key("1-1-1", 10).build(0)), teacher)
    for options, words in (
        (("--proxy", "diswot", "--teacher", teacher), "10 classes; the space has 3"),
        (
            ("--proxy", "nwot", "--controls", "--other-teacher", teacher),
            f"--other-teacher {teacher}: 10 classes",
        ),
        (("--proxy", "diswot"), "--proxy diswot needs a teacher"),
        (("--proxy", "autodistil"), "is for networks over tokens"),
        (("--proxy", "nwot", "--space", "autodistil-tiny"), "networks over pictures"),
    ):
        result = nas(*scoring, *options)
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr

    shown = np.load(pictures)["images"]
    for images, labels, words in (
        (shown, np.arange(12), "labels of 12 classes; the space has 3"),
        (shown[:, :4, :4], np.arange(12) % 3, "pictures of side 4; the space is of 8"),
    ):
        np.savez(pictures, images=images, labels=labels)
        result = nas(*scoring, "--proxy", "snip")
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--proxy", "nwot"), "--proxy: only with --space"),
        (("--data", "x.npz"), "--data: only with --space"),
        (("--teacher", "x"), "--teacher: only with --space"),
        (("--other-teacher", "x", "--controls"), "--other-teacher, --controls: only with --space"),
        (("--inits", 2, "--batch", 8), "--inits, --batch: only with --space"),
        (("--log", "x.jsonl"), "--log: only with --space"),
        (
            ("--space", "diswot-s0", "--other-teacher", "x"),
            "--other-teacher: only with --controls",
        ),
    ],
)
def test_options_that_would_say_nothing_are_refused(
    nas: Nas, table: Path, scores: Path, options: tuple[object, ...], words: str
) -> None:
    call = ("proxies", "bench", table, "--scores", scores, "--size", "params_m")

    result = nas(*call, *options)

    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
