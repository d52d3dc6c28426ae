"""The depth cut: the best contiguous run of layers, in any library that can leave layers out."""

from __future__ import annotations

import math

import pytest

from nas.errors import CapabilityError
from nas.ir.problem import Budget, Problem
from nas.solvers import DepthCutSolver, verify
from nas.solvers._depth_cut import is_no_op
from tests.solvers.instances import make_problem, meets, random_problem

LOSSES = (9.0, 1.0, 2.0, 0.1, 3.0, 0.2)


def decoder(limit_ms: float, skip: str = "skip", losses: tuple[float, ...] = LOSSES) -> Problem:
    """Two slots a layer of 1 ms each; leaving out layer i loses `losses[i]`."""
    return make_problem(
        {
            f"layers.{i}.{kind}": {
                "half": (loss / 8, 0.5),
                "teacher": (0.0, 1.0),
                skip: (loss / 2, 0.0),
            }
            for i, loss in enumerate(losses)
            for kind in ("attention", "ffn")
        },
        Budget(name="latency_ms", cost="a", limit=limit_ms),
    )


def cut(problem: Problem) -> list[int]:
    """The layers that are left out."""
    solution = DepthCutSolver().solve(problem)
    verify(problem, solution)
    gone = {s.split(".")[1] for s, v in solution.choice.items() if is_no_op(v)}
    assert all(is_no_op(v) or v == "teacher" for v in solution.choice.values())
    return sorted(map(int, gone))


@pytest.mark.parametrize(
    ("limit_ms", "layers"), [(12, []), (11, [3]), (8, [2, 3]), (6, [1, 2, 3]), (0, list(range(6)))]
)
def test_cuts_the_contiguous_run_that_loses_least(limit_ms: float, layers: list[int]) -> None:
    assert cut(decoder(limit_ms)) == layers


@pytest.mark.parametrize("seed", range(5))
def test_no_other_run_is_better(seed: int) -> None:
    problem = random_problem(seed)
    slots = list(problem.slots)
    whole = {slot: min(problem.slots[slot][1:], key=lambda o: o.loss) for slot in slots}
    losses = []
    for begin in range(len(slots)):
        for end in range(begin, len(slots) + 1):
            gone = {slot: problem.slots[slot][0] for slot in slots[begin:end]}
            picked = tuple((whole | gone).values())
            if meets(problem, picked):
                losses.append(math.fsum(option.loss for option in picked))
    assert DepthCutSolver().solve(problem).objective == pytest.approx(min(losses))


def test_layers_are_ordered_by_number_not_as_the_file_has_them() -> None:
    problem = decoder(8.0, losses=(5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 1.0, 1.0))
    by_text = Problem(slots=dict(sorted(problem.slots.items())), budgets=problem.budgets)
    assert list(by_text.slots)[4] == "layers.10.attention"
    assert cut(by_text) == list(range(4, 11))


def test_a_layer_that_cannot_be_left_out_stays() -> None:
    problem = decoder(8.0)
    kept = tuple(o for o in problem.slots["layers.2.ffn"] if o.variant != "skip")
    fixed = problem.model_copy(update={"slots": {**problem.slots, "layers.2.ffn": kept}})
    assert cut(fixed) == [3, 4]


@pytest.mark.parametrize("name", ["no_op", "No-Op", "noop", "attn_no_op+ffn_no_op", "ffn skip"])
def test_finds_the_no_op_by_its_name(name: str) -> None:
    assert cut(decoder(11.0, skip=name)) == [3]


@pytest.mark.parametrize("name", ["no_op+ffn_87", "skip_norm", "linear", "v0", ""])
def test_other_names_are_no_no_op(name: str) -> None:
    assert not is_no_op(name)


@pytest.mark.parametrize("slot", ["s0", "stem"])
def test_a_library_without_layers_to_leave_out_is_refused(slot: str) -> None:
    variant = "linear" if slot == "s0" else "skip"
    problem = make_problem(
        {slot: {variant: (1.0, 0.0), "teacher": (0.0, 2.0)}},
        Budget(name="latency_ms", cost="a", limit=1.0),
    )
    with pytest.raises(CapabilityError, match="skip or no_op in every slot of a layer"):
        DepthCutSolver().solve(problem)
