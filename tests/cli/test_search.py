"""`nas search`: forms of the answer and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Nas

SPACE = """
builder: cifar_resnet
description: a toy
blocks: [[1, 2], [1, 2], [1, 2]]
widths: [2, 2, 2]
image_size: 4
"""


@pytest.fixture
def asked(tmp_path: Path) -> list[object]:
    (tmp_path / "toy.yaml").write_text(SPACE)
    return ["search", "--space", tmp_path / "toy.yaml", "--proxy", "params"]


def test_json_and_yaml_say_the_same(nas: Nas, asked: list[object]) -> None:
    journal = ("--journal", "journal.jsonl")
    as_json = nas(*asked, "--max", "depth=10", *journal, "-f", "json", "-q")
    as_yaml = nas(*asked, "--max", "depth=10", *journal, "-f", "yaml", "-q")

    answer, again = json.loads(as_json.stdout), yaml.safe_load(as_yaml.stdout)
    assert as_json.stderr == ""
    assert answer["ranked"] == again["ranked"]
    assert (answer["scored"], answer["within_limits"], answer["architectures"]) == (4, 4, 8)
    assert (answer["reused"], again["reused"]) == (0, 4)
    assert answer["ranked"][0].keys() == {
        *("rank", "architecture", "score", "values", "spreads", "costs", "size_ranks")
    }


def test_the_table_has_size_beside_the_score(nas: Nas, asked: list[object]) -> None:
    result = nas(*asked)

    header = result.stdout.splitlines()[1].split()
    assert header[:6] == ["rank", "architecture", "score", "params", "params_m", "flops_m"]
    assert "by params" in result.stdout
    assert "rank correlation of the score with size: params_m 1.00" in result.stdout


def test_infeasible_exits_with_3_and_the_tightest_value(nas: Nas, asked: list[object]) -> None:
    result = nas(*asked, "--max", "depth=7")

    assert (result.exit_code, result.stdout) == (3, "")
    assert "the tightest feasible is depth 8" in result.stderr


def test_mistakes_exit_with_2(nas: Nas, asked: list[object]) -> None:
    for arguments, words in (
        ((*asked, "--max", "x=1"), "no such cost"),
        ((*asked[:-1], "parms"), "did you mean 'params'"),
        (("search", "--space", "decoder", "--proxy", "params"), "a space of blocks"),
        (("search", "--proxy", "params"), "--space"),
    ):
        result = nas(*arguments)
        assert result.exit_code == 2
        assert words in result.stderr


def test_both_kinds_of_space_are_listed_and_shown(nas: Nas) -> None:
    listing = json.loads(nas("ls", "spaces", "-f", "json").stdout)["spaces"]
    about = {entry["name"]: entry["about"] for entry in listing}
    shown = yaml.safe_load(nas("show", "space", "diswot-s0", "-f", "yaml").stdout)

    assert about["decoder"].startswith("blocks of a run")
    assert "15,625 architectures" in about["nasbench201"]
    assert shown["builder"] == "cifar_resnet"
    assert nas("show", "space", "diswot-so").exit_code == 2
