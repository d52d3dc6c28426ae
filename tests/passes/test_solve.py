"""From costs and scores to an architecture."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from nas.compiler import PASSES, answer_again
from nas.errors import ConfigError, InfeasibleError
from nas.ir import KeepTeacher
from nas.libraries import Answer, Query, RunAnswer, read_library, solve_library
from nas.passes import Artefacts
from nas.passes.measure import total_costs
from nas.passes.solve import architecture_of, make_problem
from nas.uncertainty import Scrutiny, student_quantile


def _total(view: Artefacts, name: str) -> float:
    student = architecture_of(view.context.shape, view.candidates, view.solution)
    return total_costs(view.context, view.costs, student.items(view.context.shape))[name]


def test_the_solution_is_the_best_of_all_architectures(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(budgets={"params_m": 0.027, "kv_mib_per_sequence": 0.005})
    problem = make_problem(view.context, view.costs, view.candidates, view.scores)
    best = min(
        sum(option.loss for option in choice)
        for choice in itertools.product(*problem.slots.values())
        if all(
            b.fixed + sum(option.costs[b.cost] for option in choice) <= b.limit * (1 + 1e-9)
            for b in problem.budgets
        )
    )
    assert view.solution.proven
    assert view.solution.objective == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(
    ("budgets", "cost", "limit"),
    [
        ({"speedup": 1.2}, "prefill_ms", lambda teacher: teacher / 1.2),
        ({"speedup": {"decode": 1.1}}, "decode_ms", lambda teacher: teacher / 1.1),
        ({"latency_ms": {"prefill": 0.09}}, "prefill_ms", lambda teacher: 0.09),
        ({"params_m": 0.025}, "params_m", lambda teacher: 0.025),
        ({"memory_mib": 0.1}, "memory_mib", lambda teacher: 0.1),
        ({"kv_mib_per_sequence": 0.003}, "kv_mib_per_sequence", lambda teacher: 0.003),
    ],
)
def test_every_budget_holds_in_the_unit_that_the_user_wrote(
    artefacts: Callable[..., Artefacts],
    budgets: dict[str, object],
    cost: str,
    limit: Callable[[float], float],
) -> None:
    view = artefacts(budgets=budgets)
    everything = [(slot, KeepTeacher()) for slot in view.context.shape.slots()]
    teacher = total_costs(view.context, view.costs, everything)[cost]
    assert _total(view, cost) <= limit(teacher) * (1 + 1e-9)
    assert view.solution.objective is not None


def test_throughput_counts_the_whole_request(artefacts: Callable[..., Artefacts]) -> None:
    easy = artefacts(budgets={"throughput_tokens_per_s": 1.0})
    everything = [(slot, KeepTeacher()) for slot in easy.context.shape.slots()]
    request_ms = total_costs(easy.context, easy.costs, everything)["request_ms"]
    wanted = 1.1 * 1000 * (16 + 8) / request_ms
    view = artefacts(budgets={"throughput_tokens_per_s": wanted})
    assert 1000 * (16 + 8) / _total(view, "request_ms") >= wanted * (1 - 1e-9)


def test_a_solution_is_judged_by_the_sequences_that_it_was_scored_on(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(budgets={"params_m": 0.027})
    choice = view.solution.choice
    chosen = [view.scores[f"{s}/{v}"] for s, v in choice.items() if v != "teacher"]

    run, scrutiny = view.context.run, Scrutiny(confidence=0.8, resamples=20)
    judged = answer_again(view.context.config, run, scrutiny).found
    assert isinstance(judged, RunAnswer)
    assert judged.uncertainty is not None

    sums = np.sum(chosen, axis=0)
    reach = student_quantile(0.8, 2) * sums.std(ddof=1) / 3**0.5
    assert judged.choice == choice
    assert judged.uncertainty.sequences == 3
    assert judged.uncertainty.measured.low == pytest.approx(sums.mean() - reach)
    assert judged.uncertainty.slots.keys() == choice.keys()


def test_the_problem_of_a_run_is_a_library_that_knows_its_sequences(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(budgets={"params_m": 0.027})
    view.solution  # noqa: B018
    run, scrutiny = view.context.run, Scrutiny(resamples=20)
    judged = answer_again(view.context.config, run, scrutiny).found
    assert isinstance(judged, RunAnswer)
    (path,) = run.path("solutions").glob("*/problem.json")

    answer = solve_library(read_library(path), Query(scrutiny=scrutiny)).found

    assert isinstance(answer, Answer)
    assert answer.choice == judged.choice
    assert answer.uncertainty == judged.uncertainty


def test_a_judgement_is_made_once(artefacts: Callable[..., Artefacts]) -> None:
    first = artefacts(budgets={"params_m": 0.027}).uncertainty
    again = artefacts(budgets={"params_m": 0.027})

    assert again.uncertainty == first
    assert not again.context.run.tally.done


def test_a_report_may_judge_a_run_that_was_solved_before(
    artefacts: Callable[..., Artefacts],
) -> None:
    artefacts(budgets={"params_m": 0.027}).solution  # noqa: B018
    later = artefacts(budgets={"params_m": 0.027})
    later.context.run.closed = frozenset(p.name for p in PASSES if p.name != "report")

    assert later.uncertainty is not None


def test_one_scoring_sequence_is_no_ground_to_judge_on(
    artefacts: Callable[..., Artefacts],
) -> None:
    assert artefacts(data={"score_sequences": 1}).uncertainty is None


def test_only_an_optimum_is_judged(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(solve={"solver": "greedy"})
    view.solution  # noqa: B018

    with pytest.raises(ConfigError, match=r"solve\.solver=greedy"):
        answer_again(view.context.config, view.context.run, Scrutiny())


def test_an_infeasible_budget_is_refused_before_anything_is_built(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(budgets={"speedup": 1000.0})
    with pytest.raises(InfeasibleError) as error:
        view.block_keys  # noqa: B018
    reachable = error.value.tightest["speedup.prefill"]
    assert 1 < reachable < 1000
    assert not view.context.run.path("library").exists()
    assert artefacts(budgets={"speedup": reachable * 0.999}).solution.objective is not None


def test_an_infeasible_budget_is_explained_in_the_terms_that_the_user_wrote(
    artefacts: Callable[..., Artefacts],
) -> None:
    budgets = {"speedup": {"decode": 1000.0}, "throughput_tokens_per_s": 2e9, "params_m": 0.03}
    with pytest.raises(InfeasibleError) as error:
        artefacts(budgets=budgets).costs  # noqa: B018
    speedup, throughput, parameters = str(error.value).splitlines()[1:4]
    tightest = error.value.tightest
    assert "speedup.decode: at least 1000 times asked; the most of any choice is " in speedup
    said = speedup.partition("any choice is ")[2].partition(";")[0].partition(",")[0]
    assert float(said) == pytest.approx(tightest["speedup.decode"], rel=1e-4)
    assert "at least 2000000000 token/s asked; the most of any choice is " in throughput
    assert tightest["throughput_tokens_per_s"] < 2e9
    assert "params_m: at most 0.03 million parameters asked; the least" in parameters
    assert " ms " not in str(error.value)


def test_another_latency_budget_is_solved_without_measuring_or_building(
    artefacts: Callable[..., Artefacts],
) -> None:
    settings = {"space": "decoder", "target": {"hardware": "x86-avx512-amx"}}
    first = artefacts(budgets={"speedup": 1.05}, **settings)
    first.architectures  # noqa: B018
    again = artefacts(budgets={"speedup": 1.6}, **settings)
    again.context.run.closed = frozenset({"teacher", "data", "space", "measure", "build", "score"})
    assert again.solution.objective is not None
    assert first.solution.objective is not None
    assert again.solution.objective > first.solution.objective
    assert set(again.context.run.tally.done) <= {"solve"}
    assert again.student_keys.keys() == again.architectures.keys()


def test_uniform_widths_stand_on_both_sides_of_the_budget(
    artefacts: Callable[..., Artefacts],
) -> None:
    """One has the benefit of the doubt, the other is the widest that meets the budget."""
    names, target = ("uniform_ffn", "uniform_ffn_within"), {"hardware": "apple-m2"}
    any_view = artefacts(target=target)
    shape = any_view.context.shape
    everything = [(slot, KeepTeacher()) for slot in shape.slots()]
    whole = total_costs(any_view.context, any_view.costs, everything)["params_m"]
    limit = whole - 0.0055  # 16 channels of the feed-forwards are 0.003 million

    view = artefacts(budgets={"params_m": limit}, baselines=list(names), target=target)

    def cost(name: str) -> float:
        choice = view.baselines[name].items(shape)
        return total_costs(view.context, view.all_costs, choice)["params_m"]

    assert tuple(view.baselines) == names
    assert cost("uniform_ffn_within") <= limit < cost("uniform_ffn")
    for architecture in view.baselines.values():
        assert len(set(architecture.choices.values())) == 1
        assert len(architecture.choices) == shape.layers
