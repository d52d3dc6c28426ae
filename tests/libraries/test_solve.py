"""Answers are optimal, differ as asked, form a front, and explain what cannot be met."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import ConfigError, PassError
from nas.libraries import (
    Answer,
    Axis,
    JointAnswer,
    Plane,
    Query,
    answer_tables,
    read_library,
    solve_library,
)
from nas.libraries._heat import heat_map
from nas.libraries._show import places
from nas.solvers._joint import _Found
from nas.uncertainty import Scrutiny
from tests.libraries.files import best_by_hand, heaviest, puzzle_data, total, write_json

KL, MEMORY, RUNTIME = "metrics.kl_div", "stats.memory_mib", "stats.runtime_ms"


def ask(path: Path, **options: object) -> Answer | list[Answer] | JointAnswer:
    query = Query.parse(objective=KL, **options)  # type: ignore[arg-type]
    return solve_library(read_library(path), query).found


def one(found: Answer | list[Answer] | JointAnswer) -> Answer:
    assert isinstance(found, Answer)
    return found


def many(found: Answer | list[Answer] | JointAnswer) -> list[Answer]:
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_small_library_is_solved_as_by_trying_everything(tmp_path: Path, seed: int) -> None:
    data = puzzle_data(5, 5, seed)
    path = write_json(tmp_path / "small.json", data)
    memory, runtime = 0.5 * heaviest(data, MEMORY), 0.45 * heaviest(data, RUNTIME)

    answer = one(ask(path, most=[f"{MEMORY}={memory!r}", f"{RUNTIME}={runtime!r}"]))

    assert answer.status == "proven"
    expected = best_by_hand(data, memory_mib=memory, runtime_ms=runtime)
    assert answer.objective == pytest.approx(expected, rel=1e-9)
    assert answer.objective == pytest.approx(total(data, KL, answer.choice), rel=1e-12)
    assert answer.costs[MEMORY] == pytest.approx(total(data, MEMORY, answer.choice), rel=1e-12)
    assert answer.slack[RUNTIME] == pytest.approx(runtime - answer.costs[RUNTIME])


def test_eighty_layers_of_54_variants_are_proven_optimal(tmp_path: Path) -> None:
    data = puzzle_data(80, 54)
    path = write_json(tmp_path / "large.json", data)
    limits = [f"{c}={0.6 * heaviest(data, c)}" for c in (MEMORY, RUNTIME)]

    answer = one(ask(path, most=limits))

    assert answer.status == "proven"
    assert answer.gap is not None
    assert answer.gap <= 1e-6
    assert answer.bound is not None
    assert answer.lp_bound is not None
    assert answer.objective is not None
    assert answer.lp_bound <= answer.bound <= answer.objective
    assert all(slack >= 0 for slack in answer.slack.values())
    assert max(answer.duals.values()) > 0
    assert "would lower the loss by" in " ".join(answer.prices)


def test_a_limit_of_price_0_is_said_to_cost_what_it_costs(tmp_path: Path) -> None:
    rows = {"x": (0, 3, 0), "y": (1, 0, 3), "z": (5, 0, 0)}
    slot = {v: dict(zip(("kl", "mem", "ms"), row, strict=True)) for v, row in rows.items()}
    library = read_library(write_json(tmp_path / "a.json", {"a": slot, "b": slot}))

    answer = one(solve_library(library, Query.parse(objective="kl", most=["mem=5", "ms=2"])).found)

    assert (answer.objective, answer.duals["ms"]) == (5.0, 0.0)
    assert answer.prices[1].endswith("without this limit the loss would be 1")


def test_a_lower_and_an_upper_limit_of_a_column_hold_together(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(4, 4))

    answer = one(ask(path, most=[f"{MEMORY}=2600"], least=[f"{MEMORY}=2400"]))

    assert 2400 <= answer.costs[MEMORY] <= 2600
    assert set(answer.slack) == {MEMORY, f"{MEMORY}.min"}


def test_solutions_differ_in_as_many_slots_as_asked(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(8, 6))

    answers = many(ask(path, most=[f"{MEMORY}=4000"], solutions=4, differ=3))

    assert len(answers) == 4
    for i, answer in enumerate(answers):
        for other in answers[:i]:
            assert sum(answer.choice[s] != other.choice[s] for s in answer.choice) >= 3
    objectives = [answer.objective for answer in answers]
    assert objectives == sorted(objectives, key=lambda value: value or 0.0)


def test_solutions_found_jointly_have_a_bound_on_their_sum(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(5, 4))
    asked = {"most": [f"{MEMORY}=2500"], "solutions": 3, "differ": 3}

    joint, greedy = ask(path, diverse="jointly", **asked), many(ask(path, **asked))

    assert isinstance(joint, JointAnswer)
    assert joint.status == "proven"
    assert joint.objective == pytest.approx(sum(a.objective or 0.0 for a in joint.solutions))
    assert joint.greedy_objective == pytest.approx(sum(a.objective or 0.0 for a in greedy))
    assert joint.bound is not None
    assert joint.bound <= joint.objective <= joint.greedy_objective
    for i, answer in enumerate(joint.solutions):
        for other in joint.solutions[:i]:
            assert sum(answer.choice[s] != other.choice[s] for s in answer.choice) >= 3


def test_joint_solutions_of_nothing_feasible_have_a_reason(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(4, 4))

    joint = ask(path, most=[f"{MEMORY}=1"], solutions=3, diverse="jointly")

    assert isinstance(joint, JointAnswer)
    assert joint.infeasibility is not None
    assert joint.infeasibility.conflict == (MEMORY,)
    assert list(answer_tables(joint)) == []


def test_fewer_solutions_than_asked_are_noted(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(2, 2))
    query = Query.parse(objective=KL, solutions=9)

    answers = solve_library(read_library(path), query)

    assert len(many(answers.found)) == 4
    assert answers.notes == ("4 of 9 solutions: no further one differs in 1 slots",)


def test_a_sweep_is_a_front_of_optimal_points(tmp_path: Path) -> None:
    data = puzzle_data(4, 5)
    path = write_json(tmp_path / "a.json", data)

    points = many(ask(path, sweeps=(f"{MEMORY}=500:6000:12",)))

    costs = [point.costs[MEMORY] for point in points]
    losses = [point.objective or 0.0 for point in points]
    assert len(points) > 3
    assert costs == sorted(costs)
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == len(losses)
    for point in points:
        limit = point.budgets[0].limit
        assert point.status == "proven"
        assert point.objective == pytest.approx(best_by_hand(data, memory_mib=limit))


def test_a_sweep_over_two_columns_is_optimal_for_every_pair(tmp_path: Path) -> None:
    data = puzzle_data(4, 5)
    library = read_library(write_json(tmp_path / "a.json", data))
    asked = (f"{MEMORY}=500:3500:5", f"{RUNTIME}=300:2100:4")

    answers = solve_library(library, Query.parse(objective=KL, sweeps=asked))

    plane = answers.plane
    assert plane is not None
    for memory, losses in zip(plane.down.values, plane.losses, strict=True):
        for runtime, loss in zip(plane.across.values, losses, strict=True):
            best = best_by_hand(data, memory_mib=memory, runtime_ms=runtime)
            assert loss == (None if best is None else pytest.approx(best))
    points = many(answers.found)
    spent = [(p.costs[MEMORY], p.costs[RUNTIME], p.objective or 0.0) for p in points]
    assert spent == sorted(spent)
    for one in spent:
        assert not any(all(a <= b for a, b in zip(v, one, strict=True)) and v != one for v in spent)
    assert any("followed from others without a search" in note for note in answers.notes)


def test_a_heat_map_is_darker_where_more_is_lost() -> None:
    plane = Plane(
        down=Axis("memory_mib", (1.0, 2.0, 3.0), "memory_mib", (1.0, 2.0, 3.0)),
        across=Axis("speedup", (1.0, 2.0), "speedup.prefill", (8.0, 4.0)),
        losses=((None, None), (0.1, 100.0), (1e-9, 10.0)),
    )
    assert list(heat_map(plane)) == [
        "loss by memory_mib (down) and speedup (across)",
        "  3 |##..|",
        "  2 |@@..|",
        "  1 |    |",
        "speedup from 2 (left) to 1 (right)",
        "loss up to: . 0.215, # 21.5, @ 100; blank: nothing feasible found",
    ]


def give_up(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Every solve after the first few finds nothing."""
    from nas.solvers import MipSolver

    honest, calls = MipSolver.solve, iter(range(10**6))

    def tired(self: MipSolver, *args: object, **options: object) -> object:
        if next(calls) >= after:
            raise PassError("no time")
        return honest(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MipSolver, "solve", tired)


@pytest.mark.parametrize("diverse", ["greedily", "jointly"])
def test_solutions_that_were_found_are_given_though_a_search_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diverse: str
) -> None:
    library = read_library(write_json(tmp_path / "a.json", puzzle_data(4, 4)))
    give_up(monkeypatch, after=2)
    if diverse == "jointly":
        search = "nas.solvers._joint._Search.run"
        monkeypatch.setattr(search, lambda self, count, known, *_: _Found(known, self.least))

    answers = solve_library(
        library,
        Query.parse(objective=KL, most=[f"{MEMORY}=2500"], solutions=4, diverse=diverse),  # type: ignore[arg-type]
    )

    found = answers.found
    assert len(found.solutions if isinstance(found, JointAnswer) else many(found)) == 2
    assert answers.notes == (
        "2 of 4 solutions: the search for a further one ended without an answer; "
        "that none differs enough is not proven",
    )


def test_a_sweep_counts_the_points_that_stay_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = read_library(write_json(tmp_path / "a.json", puzzle_data(4, 4)))
    query = Query.parse(objective=KL, sweeps=[f"{MEMORY}=900:3500:6"])
    give_up(monkeypatch, after=2)

    answers = solve_library(library, query)

    assert len(many(answers.found)) == 2
    assert answers.notes[0].endswith("infeasible, unknown, or no better than another")
    assert "points unknown: the solver found nothing there" in answers.notes[1]
    with pytest.raises(PassError, match="no point of the sweep has an answer"):
        solve_library(library, query)


def test_an_infeasible_query_names_the_conflict_and_a_way_out(tmp_path: Path) -> None:
    data = puzzle_data(4, 4)
    path = write_json(tmp_path / "a.json", data)
    least = sum(min(v["stats"]["memory_mib"] for v in s.values()) for s in data.values())

    limits = [f"{MEMORY}={least / 2}", f"{RUNTIME}=9999"]
    answer = one(ask(path, most=limits))

    assert (answer.status, answer.objective, answer.choice) == ("infeasible", None, {})
    why = answer.infeasibility
    assert why is not None
    assert why.conflict == (MEMORY,)
    assert why.tightest[MEMORY] == pytest.approx(least)
    assert why.relaxation is not None
    assert why.relaxation.budget == MEMORY
    assert why.relaxation.limit == pytest.approx(least)
    relaxed = f"{MEMORY}={why.relaxation.limit!r}"
    assert one(ask(path, most=[relaxed, limits[1]])).status == "proven"


def test_two_limits_out_of_reach_get_a_way_out_together(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(4, 4))

    why = one(ask(path, most=[f"{MEMORY}=10", f"{RUNTIME}=10"])).infeasibility

    assert why is not None
    assert why.relaxation is None
    assert why.impossible == (MEMORY, RUNTIME)
    assert why.least
    relaxed = [f"{moved.budget}={moved.limit!r}" for moved in why.together]
    assert one(ask(path, most=relaxed)).status == "proven"


@pytest.mark.parametrize(
    "options",
    [{"solutions": 3, "most": [f"{MEMORY}=1"]}, {"sweeps": [f"{MEMORY}=1:2:3"]}],
)
def test_an_infeasible_query_for_several_gives_one_reason(
    tmp_path: Path, options: dict[str, object]
) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(4, 4))

    (answer,) = many(ask(path, **options))

    assert answer.infeasibility is not None
    assert answer.infeasibility.conflict == (MEMORY,)
    assert list(answer_tables([answer])) == []


def test_a_diagnosis_cut_short_still_says_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object, **__: object) -> None:
        raise PassError("no time")

    monkeypatch.setattr("nas.libraries._certify.diagnose", late)
    path = write_json(tmp_path / "a.json", puzzle_data(4, 4))

    why = one(ask(path, most=[f"{MEMORY}=1"])).infeasibility

    assert why is not None
    assert why.conflict == ()
    assert MEMORY in why.tightest
    assert "(no time)" in why.explanation


def test_an_answer_that_fails_its_certificate_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.solvers import MipSolver

    honest = MipSolver.solve

    def wrong(self: MipSolver, *args: object, **options: object) -> object:
        found = honest(self, *args, **options)  # type: ignore[arg-type]
        return found.model_copy(update={"objective": (found.objective or 0.0) + 0.01})

    monkeypatch.setattr(MipSolver, "solve", wrong)
    path = write_json(tmp_path / "a.json", puzzle_data(4, 4))

    with pytest.raises(PassError, match="fails its certificate"):
        ask(path, most=[f"{MEMORY}=2000"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"most": ["memory"]}, "write PATH=VALUE"),
        ({"most": ["memory=much"]}, "'much' is no number"),
        ({"most": ["memory=nan"]}, "'nan' is no number"),
        ({"least": ["memory=1_0"]}, "'1_0' is no number"),
        ({"most": ["m=1", "m=2"]}, "--max m: given twice"),
        ({"most": ["m=1"], "sweeps": ["m=1:2:3"]}, "--sweep sets the limits"),
        ({"sweeps": ["m=1:2"]}, "write PATH=LOW:HIGH:COUNT"),
        ({"sweeps": ["m=2:1:3"]}, "LOW must be less than HIGH"),
        ({"sweeps": ["m=1:2:1"]}, "COUNT is 1"),
        ({"sweeps": ["m=1:2:99999"]}, "COUNT is 99999"),
        ({"sweeps": ["m=1:2:3", "m=1:2:3"]}, "--sweep m: given twice"),
        ({"sweeps": ["a=1:2:3", "b=1:2:3", "c=1:2:3"]}, "3 given"),
        ({"sweeps": ["a=1:2:40", "b=1:2:40"]}, "1600 points in all"),
        ({"sweeps": ["m=1:2:3"], "solutions": 2}, "give one of them"),
        ({"diverse": "jointly"}, "--diverse says how --solutions are found"),
        ({"diverse": "jointly", "solutions": 2, "solver": "greedy"}, "takes mip only"),
        ({"differ": 2}, "give --solutions, too"),
        ({"time_limit_s": 0.0}, "give a positive number of seconds"),
        ({"time_limit_s": float("inf")}, "give a positive number of seconds"),
    ],
)
def test_a_query_without_sense_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Query.parse(objective=KL, **options)  # type: ignore[arg-type]

    assert words in str(caught.value)


def test_an_unknown_solver_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(2, 2))

    with pytest.raises(ConfigError, match="did you mean 'greedy'"):
        ask(path, solver="gredy")


def test_a_heuristic_answers_with_its_gap(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", puzzle_data(10, 8))

    answer = one(ask(path, most=[f"{MEMORY}=5000"], solver="greedy"))

    assert (answer.status, answer.solver) == ("incumbent", "greedy")
    assert answer.gap is not None


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        (["layer_0", "layer_1", "layer_2", "layer_7"], "layer_* 0-2 7"),
        (["3", "4", "6"], "3-4 6"),
        (
            ["layers.0.ffn", "layers.0.attention", "layers.1.ffn"],
            "layers.*.ffn 0-1; layers.*.attention 0",
        ),
        (["stem", "layer_01"], "stem; layer_01"),
    ],
)
def test_slots_are_named_in_few_words(slots: list[str], words: str) -> None:
    assert places(slots) == words


def test_scores_of_single_sequences_say_nothing_of_another_objective(tmp_path: Path) -> None:
    options = [
        {"variant": "a", "loss": 0.0, "costs": {"ms": 2.0}},
        {"variant": "b", "loss": 0.2, "costs": {"ms": 1.0}},
    ]
    data = {"slots": {"s": options}, "budgets": [], "scores": {"s/b": [0.1, 0.3]}}
    library = read_library(write_json(tmp_path / "problem.json", data))
    scrutiny = Scrutiny(resamples=5)

    answer = one(solve_library(library, Query(scrutiny=scrutiny)).found)
    with pytest.raises(ConfigError, match="no scores of single sequences for this objective"):
        solve_library(library, Query(objective="ms", scrutiny=scrutiny))

    assert answer.uncertainty is not None
    assert answer.uncertainty.sequences == 2
    assert answer.uncertainty.slots["s"].regret == pytest.approx(0.2)
