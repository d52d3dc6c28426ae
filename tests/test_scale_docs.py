"""The prices in docs/scale.md are what the plan computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hardware_profiles import load_profile
from nas.config import validate_config
from nas.ir import DecoderShape
from nas.passes._work import Gflop, Work
from nas.passes.plan import profile_rates, transfer_s
from search_spaces import load_space

_PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
_GPU = load_profile("h100-sxm")


def _rows(text: str) -> dict[str, list[str]]:
    """Cells of the rows of a table by their first one, without the header."""
    lines = [line for line in text.strip().splitlines() if line.startswith("| ")][1:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {first: rest for first, *rest in cells}


def _between(name: str) -> str:
    found = re.search(rf"<!-- {name} begin -->\n(.*?)<!-- {name} end -->", _PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def _work(name: str, **sections: Any) -> Work:
    shapes = _rows(_PAGE[_PAGE.index("| teacher | layers") : _PAGE.index("GPU hours (H100)")])
    layers, hidden, query, kv, width, vocabulary = map(int, shapes[name])
    shape = DecoderShape(
        family="llama",
        layers=layers,
        hidden_size=hidden,
        query_heads=query,
        kv_heads=kv,
        head_dim=hidden // query,
        ffn_width=width,
        vocab_size=vocabulary,
        max_positions=8192,
        tied_embeddings=False,
        norm_eps=1e-5,
        activation="silu",
        rope={},
        bos_token_id=1,
        eos_token_ids=(2,),
    )
    recipe = yaml.safe_load(_between("recipe").replace("```yaml", "").replace("```", ""))
    teacher = {"source": name, "dtype": "bfloat16"}
    settings = {
        "name": "price",
        "teacher": teacher,
        "budgets": {"speedup": 2},
        **recipe,
        **sections,
    }
    config = validate_config(settings, "docs/scale.md")
    candidates = load_space(config.space).candidates(shape, _GPU.width_multiple)
    return Work(config, shape, candidates, streams=True)


def hours_row(name: str) -> list[str]:
    work, rates = _work(name), profile_rates(_GPU)

    def hours(*parts: Gflop) -> float:
        return sum(rates.seconds(part) for part in parts) / 3600

    build, score = hours(work.walk, work.build_jobs), hours(work.score_walk, work.score_jobs)
    rest = hours(work.refine, work.refit, work.evaluate)
    distill = hours(work.distill)
    parameters = f"{work.teacher_params / 1e9:.1f}"
    found = (build, score, rest, distill, build + score + rest + distill)
    return [parameters, f"{len(work.candidates):,}", *(f"{value:.2f}" for value in found)]


def sizes_row(name: str) -> list[str]:
    work = _work(name)
    sizes = (
        2 * work.teacher_params / 2**20,
        work.build_mib,
        work.build_transfer_mib,
        work.built_mib,
        work.scratch_mib,
    )
    return [f"{mib / 1024:,.0f}" for mib in sizes]


@pytest.mark.parametrize("name", ["8B", "70B", "405B"])
def test_the_page_says_what_the_plan_computes(name: str) -> None:
    assert _rows(_between("hours"))[name] == hours_row(name)
    assert _rows(_between("sizes"))[name] == sizes_row(name)


def test_the_walk_is_two_operations_a_weight_and_the_keys_in_sight() -> None:
    work, hidden, layers = _work("8B"), 4096, 32
    weights = layers * (2 * hidden * hidden + 2 * hidden * 1024 + 3 * hidden * 14336)
    keys = layers * 4 * 1024 * hidden
    assert work.body == 2 * weights + keys
    assert work.walk.low == pytest.approx(1048576 * (2 * weights + keys) / 1e9)


def test_focused_scores_hold_what_both_methods_do_and_move_nothing() -> None:
    held, moved = dict[str, float](), dict[str, float]()
    methods = {
        "replace_one": {"method": "replace_one"},
        "one_backward": {"method": "one_backward", "draws": 3},
        "focused": {"method": "focused", "draws": 3},
        "race": {"until_certain": True},
    }
    for name, score in methods.items():
        work = _work("8B", build={"tokens": 2048}, score=score)
        held[name], moved[name] = work.scratch_mib, work.score_transfer_mib
    state = 4 * work.config.data.score_sequences * work.length * 4096 / 2**20
    assert held["one_backward"] == (64 + 3) * state
    assert held["replace_one"] == held["race"] == len(work.candidates) / 64 * state
    assert held["focused"] == max(held["one_backward"], held["replace_one"])
    assert moved == {"replace_one": 64 * state, "one_backward": 0, "focused": 0, "race": 0}


def test_what_stands_in_the_text_follows() -> None:
    large, small, rates = _work("405B"), _work("70B"), profile_rates(_GPU)
    double = large.closed_forms.double / rates.double
    assert 0.19 < double / rates.seconds(large.closed_forms) < 0.22
    bill = [small.walk, small.build_jobs, small.score_jobs, small.refine, small.refit]
    distill = rates.seconds(small.distill)
    assert 0.93 < distill / (distill + sum(map(rates.seconds, bill))) < 0.96
    walk = rates.seconds(small.walk)
    assert 14 < rates.seconds(small.build_jobs) / walk < 16
    replaced = small.survivors * small._replaced.total / small.score_jobs.total
    assert 57 < replaced < 59


@pytest.mark.parametrize(("name", "workers"), [("8B", 2), ("70B", 3), ("405B", 6)])
def test_more_workers_wait_for_what_travels(name: str, workers: int) -> None:
    work, rates = _work(name), profile_rates(_GPU)
    moved = transfer_s(work.build_transfer_mib)
    jobs = rates.seconds(work.build_jobs)
    assert jobs / (workers + 1) < moved < jobs / workers
    assert moved > rates.seconds(work.walk)
    if name == "70B":
        assert f"{work.build_transfer_mib / 1024:,.0f} GiB take {moved / 3600:.2f} h" in _PAGE
