"""Answers are held against the file itself, not only against the problem made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import PassError
from nas.ir.problem import Problem
from nas.libraries import Answer, BlockLibrary, Query, read_library, solve_library
from nas.libraries._problem import make_problem
from nas.libraries._recount import check_rows
from tests.libraries.files import puzzle_data, write_json

KL, MEMORY = "metrics.kl_div", "stats.memory_mib"
QUERY = Query.parse(objective="kl_div", most=["memory_mib=2000"])


@pytest.fixture
def library(tmp_path: Path) -> BlockLibrary:
    return read_library(write_json(tmp_path / "a.json", puzzle_data(4, 4)))


@pytest.fixture
def answer(library: BlockLibrary) -> Answer:
    found = solve_library(library, QUERY).found
    assert isinstance(found, Answer)
    return found


@pytest.mark.parametrize(
    "asked",
    [
        {"most": [f"{MEMORY}=2000"]},
        {"most": [f"{MEMORY}=2000"], "solutions": 2},
        {"most": [f"{MEMORY}=2000"], "solutions": 2, "diverse": "jointly"},
        {"sweeps": [f"{MEMORY}=1500:2500:3"]},
    ],
)
def test_a_problem_that_is_not_the_file_gives_no_answer(
    library: BlockLibrary, asked: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def altered(library: BlockLibrary, query: Query) -> Problem:
        """Every loss a little more: solver and certificate agree on it."""
        problem = make_problem(library, query)
        slots = {
            slot: tuple(o.model_copy(update={"loss": o.loss + 0.01}) for o in options)
            for slot, options in problem.slots.items()
        }
        return problem.model_copy(update={"slots": slots})

    monkeypatch.setattr("nas.libraries._solve.make_problem", altered)

    with pytest.raises(PassError, match=r"is not what .*a\.json says: objective: .* counted"):
        solve_library(library, Query.parse(objective=KL, **asked))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": 1.0}, "objective: 1.0 claimed"),
        ({"costs": {"memory_mib": 1.0}}, "costs.memory_mib: 1.0 claimed"),
        ({"slack": {"memory_mib": 1.0}}, "slack.memory_mib: 1.0 claimed"),
        ({"slack": {}}, "slack.memory_mib: None claimed"),
        ({"budgets": ()}, "--max memory_mib: no budget of the answer"),
        ({"choice": {}}, "choice: none in slot layer_0"),
    ],
)
def test_what_disagrees_with_the_rows_is_named(
    library: BlockLibrary, answer: Answer, change: dict[str, object], words: str
) -> None:
    with pytest.raises(PassError) as caught:
        check_rows(library, QUERY, answer.model_copy(update=change))

    assert words in str(caught.value)


def test_a_limit_that_is_exceeded_is_named(library: BlockLibrary, answer: Answer) -> None:
    dearest = dict.fromkeys(library.rows, "v0")

    with pytest.raises(PassError, match="budget memory_mib: exceeded by"):
        check_rows(library, QUERY, answer.model_copy(update={"choice": dearest}))
