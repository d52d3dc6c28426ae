"""From a table of accuracies and scores to a verdict, and scores that are kept in a file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nas.errors import ArtifactError, ConfigError
from nas.proxies import (
    Score,
    ScoreLog,
    Sitting,
    columns_of,
    create_proxy,
    judge,
    read_accuracies,
    read_scores,
    score_networks,
    verdict_tables,
    with_controls,
)
from tests.proxies.networks import SmallNetwork, builder, pictures, teacher

TABLE = """cell,test,class,params_m
a,90.0,x,1.00
b,91.0,x,1.00
c,92.0,y,1.05
d,94.0,z,2.00
e,93.0,w,2.10
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "known.csv"
    path.write_text(TABLE)
    return path


def read(path: Path):  # type: ignore[no-untyped-def]
    return read_accuracies(
        path, accuracy="test", architecture="cell", group="class", sizes=["params_m"]
    )


def test_reads_the_named_columns(table: Path) -> None:
    known = read(table)

    assert known.architectures == ("a", "b", "c", "d", "e")
    assert known.accuracy == (90, 91, 92, 94, 93)
    assert known.groups == ("x", "x", "y", "z", "w")
    assert known.only([0, 3]).sizes == {"params_m": (1.0, 2.0)}


def test_a_table_that_cannot_be_read_says_why(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no column 'accuracy'; it has cell, test"):
        read_accuracies(table, architecture="cell")
    with pytest.raises(ArtifactError, match="no such file"):
        read_accuracies(tmp_path / "none.csv")
    table.write_text(TABLE + "a,95.0,q,3\n")
    with pytest.raises(ConfigError, match="a stands there twice"):
        read(table)
    table.write_text(TABLE + "f,much,q,3\n")
    with pytest.raises(ArtifactError, match="'much' is no number"):
        read(table)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a,90.0\nb\nc,92\n", "line 3: 1 cells, 2 columns"),
        (b"a,90.0\nb,91,\nc,92\n", "line 3: 3 cells, 2 columns"),
        (b"a,90.0\nb,91\nc,\xff\n", "line 4: not UTF-8"),
        (b'a,90.0\nb,91\nc,"92\n', "line 4: unexpected end of data"),
        (b"a,90.0\nb,much\nc,92\n", "line 3: accuracy: 'much' is no number"),
    ],
)
def test_a_torn_table_is_named_with_its_line(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "torn.csv"
    path.write_bytes(b"architecture,accuracy\n" + text)

    for read_it in (read_accuracies, read_scores):
        with pytest.raises(ArtifactError, match=f"torn.csv: {words}"):
            read_it(path)


def test_the_mark_of_a_spreadsheet_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "saved.csv"
    path.write_bytes(b"\xef\xbb\xbfarchitecture,accuracy\r\na,1\r\n,\r\nb,2\r\n\r\nc,3\r\n")

    assert read_accuracies(path).accuracy == (1, 2, 3)
    path.write_text("architecture,accuracy,accuracy\n")
    with pytest.raises(ArtifactError, match="column accuracy stands there twice"):
        read_accuracies(path)


def test_the_verdict_has_the_baseline_first_and_the_gain_over_it(table: Path) -> None:
    scores = {"good": [1.0, 2.0, 3.0, 5.0, 4.0], "bad": [5.0, 4.0, 3.0, 1.0, math.nan]}

    verdict = judge(read(table), scores, seconds={"good": 0.5}, top=(1, 2), resamples=20)

    size, good, bad = verdict.judgements
    assert (size.proxy, size.baseline, good.baseline) == ("params_m", True, False)
    assert good.spearman.value == pytest.approx(1)
    assert good.matched == 1
    assert good.regret == {1: 0, 2: 0}
    assert good.seconds == 0.5
    # a and b are copies; left are (a, c), (b, c) and (d, e); of the size, all but the last.
    assert verdict.matched_pairs == 3
    assert size.matched == pytest.approx(2 / 3)
    assert bad.matched == pytest.approx(1 / 3)
    assert bad.undefined == 1
    assert bad.regret[1] == 4
    assert good.kendall.low is not None
    assert good.kendall.low <= good.kendall.value
    assert list(verdict_tables(verdict))


def test_a_verdict_needs_a_size_and_whole_columns(table: Path) -> None:
    known = read(table)
    with pytest.raises(ConfigError, match="4 scores, 5 networks"):
        judge(known, {"short": [1.0, 2.0, 3.0, 4.0]})
    with pytest.raises(ConfigError, match="column of sizes"):
        judge(read_accuracies(table, accuracy="test", architecture="cell"), {})


def test_a_log_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "made" / "scores.jsonl"
    log = ScoreLog(path, {"batch": 8})
    log.add("a", "nwot", Score((1.0, math.nan), 0.25))
    with path.open("a") as handle:
        handle.write('{"architecture": "b", "wh')

    again = ScoreLog(path, {"batch": 8})
    again.add("b", "nwot", Score((2.0,), 0.5))

    found = read_scores(path)
    assert found.column("nwot", ["a", "b", "c"])[:2] == [1.0, 2.0]
    assert found.rows["a"]["nwot"].undefined == 1
    assert found.seconds("nwot") == pytest.approx(0.375)
    with pytest.raises(ConfigError, match="another batch"):
        ScoreLog(path, {"batch": 16})
    path.write_text("no log\n")
    with pytest.raises(ConfigError, match="not a log"):
        ScoreLog(path, {})


def test_scores_are_read_from_csv_and_from_a_journal(tmp_path: Path) -> None:
    table, journal = tmp_path / "scores.csv", tmp_path / "journal.jsonl"
    table.write_text("architecture,p,q\na,1,\nb,2,3\n")
    entry = {"architecture": "a", "what": "p", "values": [1.0, 3.0]}
    journal.write_text(json.dumps({"search": {}}) + "\n" + json.dumps(entry) + "\n")

    found = read_scores(table)
    assert found.column("p") == [1, 2]
    assert math.isnan(found.column("q")[0])
    assert read_scores(journal).column("p") == [2]
    journal.write_text("{}\n")
    with pytest.raises(ArtifactError, match="no scores in it"):
        read_scores(journal)


def test_controls_are_run_where_they_replace_something() -> None:
    batch = pictures()
    proxies = [create_proxy(name) for name in ("params", "nwot", "diswot_relation", "snip")]
    settings = with_controls([Sitting(batch, teacher(batch))], other=lambda b: teacher(b, seed=5))

    assert [column for column, _, _ in columns_of(proxies, settings)] == [
        *("params", "nwot", "diswot_relation", "snip"),
        *("nwot (noise pictures)", "diswot_relation (noise pictures)", "snip (noise pictures)"),
        "snip (random labels)",
        "diswot_relation (another teacher)",
    ]


def test_networks_are_scored_once_and_controls_differ() -> None:
    batch = pictures()
    proxies = [create_proxy(name) for name in ("params", "diswot_relation", "snip")]
    sittings = [Sitting(batch, teacher(batch), seed) for seed in (0, 1)]
    settings = with_controls(sittings, other=lambda b: teacher(b, seed=5))
    builds = {str(blocks): builder(SmallNetwork, blocks=blocks) for blocks in (1, 2)}
    log = ScoreLog(None, {})

    score_networks(builds, proxies, settings, log)
    first = dict(log.table.rows["1"])
    score_networks(builds, proxies, settings, log)

    assert log.table.rows["1"] == first
    assert len(first["params"].values) == 1
    assert len(first["snip"].values) == 2
    assert first["snip"].values != first["snip (random labels)"].values
    relation = {first[c].value for c in first if c.startswith("diswot_relation")}
    assert len(relation) == 3
