"""Searches: optima of a known proxy, limits, costs, resuming, averages, errors."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import ConfigError, InfeasibleError
from nas.networks import CifarResNetSpec
from nas.proxies import Score, create_proxy, list_proxies
from nas.search import Arena, SearchRequest, create_strategy, list_strategies, search
from nas.search._costs import CostBook
from nas.search._journal import Journal
from nas.search._scorer import Scorer
from search_spaces import Choice, load_student_space
from tests.search.conftest import BEST, NearBest


def ask(space: str, *proxies: str, **rest: Any) -> SearchRequest:
    return SearchRequest(space, proxies=proxies or ("near_best",), **rest)


@pytest.mark.parametrize("strategy", list_strategies())
def test_every_strategy_finds_the_optimum_or_its_neighbour(space: str, strategy: str) -> None:
    trials = 64 if strategy == "exhaustive" else 45

    answer = search(ask(space, strategy=strategy, trials=trials))

    found = [int(blocks) for blocks in answer.ranked[0].architecture.split("-")]
    # NSGA-II has little more than its first generation here; the others have to end at the best.
    far = 1 if strategy == "nsga2" else 0
    assert sum(abs(a - b) for a, b in zip(found, BEST, strict=True)) <= far
    assert answer.ranked[0].score == max(entry.score for entry in answer.ranked)
    assert answer.scored == len(NearBest.calls) == len(set(NearBest.calls)) <= trials


@pytest.mark.parametrize("strategy", ["evolution", "nsga2"])
def test_a_search_beats_as_many_random_draws(tmp_path: Path, strategy: str) -> None:
    """Of 4,096 architectures 7 are that good: 250 random draws find one for all seeds in 1 of 20
    cases."""
    sixteen = list(range(1, 17))
    path = tmp_path / "large.yaml"
    path.write_text(f"builder: cifar_resnet\ndescription: x\nblocks: {[sixteen] * 3}\n")
    space = load_student_space(str(path))

    for seed in range(3):
        arena = Arena(space, CostBook(space, {}), Nearness(), Journal(None, {}), trials=250)
        create_strategy(strategy).explore(arena, random.Random(seed))
        assert len(arena.scored) <= 250
        assert max(entry.value("nearness") for entry in arena.scored.values()) >= -1


class Nearness(Scorer):
    """Without any network: how near a choice is to one in the middle."""

    names = ("nearness",)

    def __init__(self) -> None: ...

    def score(self, choice: Choice, name: str) -> Score:
        del name
        return Score(
            (-float(sum((a - b) ** 2 for a, b in zip(choice, (4, 11, 7), strict=True))),), 0
        )


@pytest.mark.parametrize("strategy", list_strategies())
def test_limits_hold_and_nothing_over_them_is_scored(space: str, strategy: str) -> None:
    specs = [CifarResNetSpec(b, (2, 2, 2), 3, 4) for b in _all_blocks()]
    sizes = {spec.key: spec.size() for spec in specs}
    limit = sorted(size.params for size in sizes.values())[30] / 1e6
    within = {key for key, size in sizes.items() if size.params / 1e6 <= limit}

    answer = search(
        ask(space, strategy=strategy, trials=len(within), limits=(f"params_m={limit}",))
    )

    assert answer.within_limits == len(within)
    assert set(NearBest.calls) <= within
    for entry in answer.ranked:
        assert entry.costs["params_m"] == sizes[entry.architecture].params / 1e6 <= limit
        assert entry.costs["flops_m"] == sizes[entry.architecture].flops / 1e6


def test_an_infeasible_limit_names_the_tightest_value_and_scores_nothing(space: str) -> None:
    least = CifarResNetSpec((1, 1, 1), (2, 2, 2), 3, 4).size().params / 1e6

    with pytest.raises(InfeasibleError, match="none of any") as caught:
        search(ask(space, limits=("params_m=1e-5", "depth=7")))

    assert caught.value.tightest == {"params_m": least, "depth": 8.0}
    assert caught.value.exit_code == 3
    with pytest.raises(InfeasibleError, match="the tightest feasible is") as caught:
        search(ask(space, limits=("params_m=1e-5", "depth=9")))
    assert NearBest.calls == []
    quoted = str(caught.value).split("the tightest feasible is params_m ")[1].split()[0]
    assert search(ask(space, limits=(f"params_m={quoted}", "depth=9"))).scored == 1


def test_a_resumed_search_does_nothing_twice_and_finds_the_same(space: str, tmp_path: Path) -> None:
    whole = ask(space, strategy="evolution", trials=40, seed=3)
    half = replace(whole, trials=20, journal=tmp_path / "journal.jsonl")
    first = search(half)
    with (tmp_path / "journal.jsonl").open("a") as handle:
        handle.write('{"architecture": "1-1')  # as an interrupted call leaves it
    NearBest.calls.clear()

    resumed = search(replace(half, trials=40))
    done = list(NearBest.calls)

    assert len(done) == 20
    assert not {entry.architecture for entry in first.ranked} & set(done)
    assert resumed.reused == 20
    assert resumed.ranked == search(whole).ranked
    NearBest.calls.clear()
    assert search(replace(half, trials=40)).ranked == resumed.ranked
    assert NearBest.calls == []


def test_a_journal_serves_other_limits_and_refuses_other_conditions(
    space: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    search(ask(space, journal=journal))
    NearBest.calls.clear()

    fewer = search(ask(space, journal=journal, limits=("depth=12",)))

    assert NearBest.calls == []
    assert fewer.reused == fewer.scored < 64
    with pytest.raises(ConfigError, match="a search with another seed"):
        search(ask(space, journal=journal, seed=1))
    (tmp_path / "other").write_text("hello\n")
    with pytest.raises(ConfigError, match="not a journal"):
        search(ask(space, journal=tmp_path / "other"))


def test_costs_from_a_table_are_limits_like_any_other(space: str, tmp_path: Path) -> None:
    students = load_student_space(space)
    costs = {students.key(choice): float(sum(choice)) for choice in students.choices()}
    path = tmp_path / "costs.csv"
    lines = [f"{key},{value}" for key, value in costs.items()]
    path.write_text("\n".join(["architecture,latency_ms", *lines]))

    answer = search(ask(space, costs=path, limits=("latency_ms=2",)))

    assert {e.architecture: e.costs["latency_ms"] for e in answer.ranked} == {
        key: value for key, value in costs.items() if value <= 2
    }
    assert answer.latency_conditions is None
    path.write_text("\n".join(["architecture,latency_ms", *lines[1:]]))
    with pytest.raises(ConfigError, match="no latency_ms of 1-1-1"):
        search(ask(space, costs=path, limits=("latency_ms=2",)))
    for limits in ((), ("energy_mj=2",)):
        with pytest.raises(ConfigError, match="its columns are architecture, latency_ms"):
            search(ask(space, costs=path, limits=limits))
    path.write_text("architecture,latency_ms\n1-1-1,fast\n")
    with pytest.raises(ConfigError, match="line 2: latency_ms is 'fast'"):
        search(ask(space, costs=path, limits=("latency_ms=2",)))


def test_a_latency_limit_measures_the_exported_network_once(space: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    asked = ask(
        space, limits=("latency_ms=1000", "depth=8"), journal=tmp_path / "j", strategy="exhaustive"
    )

    first, second = search(asked), search(asked)

    assert [e.architecture for e in first.ranked] == ["1-1-1"]
    assert 0 < first.ranked[0].costs["latency_ms"] < 1000
    assert first.ranked == second.ranked
    assert first.latency_conditions is not None
    assert first.latency_conditions.inputs == (1, 3, 4, 4)
    NearBest.calls.clear()
    with pytest.raises(InfeasibleError, match="latency_ms") as caught:
        search(replace(asked, limits=("latency_ms=1e-6", "depth=8")))
    assert caught.value.tightest["latency_ms"] == first.ranked[0].costs["latency_ms"]
    assert NearBest.calls == []


def test_several_proxies_are_combined_on_ranks(space: str) -> None:
    answer = search(ask(space, "near_best", "depth", "params"))

    entries = sorted(answer.ranked, key=lambda entry: entry.architecture)
    columns = [[entry.values[name] for entry in entries] for name in answer.proxies]
    for i, entry in enumerate(entries):
        ranks = [sum((v < c[i]) + (v == c[i]) / 2 for v in c) + 0.5 for c in columns]
        assert entry.score == pytest.approx(sum(ranks) / 3 / len(entries))
    assert answer.ranked != search(ask(space, *answer.proxies, combine="log_ranks")).ranked
    assert [e.score for e in answer.ranked] == sorted((e.score for e in entries), reverse=True)


def test_the_size_baselines_stand_beside_the_score(space: str) -> None:
    answer = search(ask(space, "params"))

    assert answer.agreement["params_m"] == pytest.approx(1.0)
    costs = [entry.costs["depth"] for entry in answer.ranked]
    for entry in answer.ranked:
        assert entry.size_ranks["depth"] == 1 + sum(c > entry.costs["depth"] for c in costs)


def test_values_are_averaged_over_initialisations_and_batches(space: str, pictures: Path) -> None:
    given = {"data": pictures, "teacher": "cifar_resnet:1-1-1", "limits": ("depth=8",), "batch": 8}
    singles = [
        search(ask(space, "first_weight", **given, seed=seed)).ranked[0].values["first_weight"]
        for seed in (4, 5, 6)
    ]

    entry = search(ask(space, "first_weight", **given, seed=4, inits=3)).ranked[0]

    assert len(set(singles)) == 3
    mean = math.fsum(v or 0 for v in singles) / 3
    assert entry.values["first_weight"] == pytest.approx(mean)
    spread = math.sqrt(sum(((v or 0) - mean) ** 2 for v in singles) / 2)
    assert entry.spreads["first_weight"] == pytest.approx(spread)


def test_a_proxy_that_is_undefined_ranks_last(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    score = NearBest.score
    monkeypatch.setattr(
        NearBest,
        "score",
        lambda self, trial: math.nan if trial.network().spec.blocks == BEST else score(self, trial),
    )

    for strategy in list_strategies():
        answer = search(ask(space, strategy=strategy, trials=64))
        best = next(e for e in answer.ranked if e.architecture == "-".join(map(str, BEST)))
        assert best.rank == answer.scored
        assert best.values["near_best"] is None
        json.loads(answer.model_dump_json())


def test_a_proxy_that_says_nothing_at_all_is_an_error(
    space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NearBest, "score", lambda self, trial: math.nan)

    with pytest.raises(
        ConfigError, match="--proxy near_best: no score is defined for any of the 8"
    ):
        search(ask(space, "depth", "near_best", trials=8, strategy="evolution"))


ENCODERS = """
builder: bert
description: tiny ones
layers: [1, 2]
heads: [2]
hidden: [8]
mlp_ratio: [2.0]
teacher_heads: 2
vocabulary: 20
positions: 8
tokens: 4
"""


@pytest.mark.parametrize("proxy", list_proxies())
def test_encoders_are_scored_by_proxies_that_know_them(tmp_path: Path, proxy: str) -> None:
    path, data = tmp_path / "encoders.yaml", tmp_path / "tokens.npz"
    path.write_text(ENCODERS)
    np.savez(data, tokens=np.arange(32).reshape(8, 4) % 20)
    asked = ask(str(path), proxy, data=data, batch=8)

    if create_proxy(proxy).over == "pictures":
        with pytest.raises(ConfigError, match=f"--proxy {proxy} is for networks over pictures; th"):
            search(asked)
    elif "teacher" in create_proxy(proxy).needs:
        with pytest.raises(ConfigError, match=f"--proxy {proxy} needs a teacher"):
            search(asked)
    else:
        assert search(asked).ranked[0].architecture == "L2-A2-H8-R2.0"


def test_pictures_are_not_scored_by_relations_of_tokens(space: str, pictures: Path) -> None:
    with pytest.raises(ConfigError, match="those of the space are over pictures"):
        search(ask(space, "autodistil", data=pictures, teacher="cifar_resnet:1-1-1"))


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ({"proxies": ("near_bst",)}, "did you mean 'near_best'"),
        ({"strategy": "nsga3"}, "did you mean 'nsga2'"),
        ({"limits": ("params=3",)}, "no such cost"),
        ({"limits": ("params_m",)}, "write COST=VALUE"),
        ({"limits": ("params_m=x",)}, "no positive number"),
        ({"limits": ("depth=9", "depth=8")}, "given twice"),
        ({"proxies": ("first_weight",)}, "needs data; give --data"),
        ({"strategy": "exhaustive", "trials": 3}, "more than the 3 of --trials"),
        ({"teacher": "none"}, "no such file"),
        ({"distill": 3}, "--distill needs"),
        ({"save": Path("x")}, "go with --distill"),
        ({"space": "diswot-so"}, "did you mean diswot-s0"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    space: str, rest: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        search(replace(ask(space), **rest))


def test_data_and_teacher_must_fit_the_space(space: str, pictures: Path) -> None:
    from safetensors.torch import save_file

    from nas.networks import resnet_state

    save_file(resnet_state(CifarResNetSpec((1, 1, 1)).build(0)), pictures.parent / "t.safetensors")

    with pytest.raises(ConfigError, match="pictures of side 4; the space is of 32"):
        search(ask("diswot-s0", data=pictures))
    with pytest.raises(ConfigError, match="10 classes; the space has 3"):
        search(ask(space, teacher=str(pictures.parent / "t.safetensors")))
    with pytest.raises(ConfigError, match="needs a teacher"):
        search(ask(space, "first_weight", data=pictures))


def _all_blocks() -> list[tuple[int, int, int]]:
    values = (1, 2, 3, 4)
    return [(a, b, c) for a in values for b in values for c in values]
