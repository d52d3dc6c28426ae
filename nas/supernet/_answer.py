"""The answer of AutoDistil, and the tables that show it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType

from nas._tables import table
from nas._words import number
from nas.ir import Conditions
from nas.supernet._search import Candidate

_SHOWN = 10


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class LearnedSpace(_Plain):
    """What one SuperLM serves."""

    name: str
    students: int
    largest: str
    smallest: str


class Student(_Plain):
    """A subnet. `score`: minus the held-out loss, or a rank correlation; higher is better.

    `latency_ms` and `speedup` over the teacher where it was timed.
    """

    architecture: str
    sub_space: str
    score: float
    costs: dict[str, float]
    latency_ms: float | None
    speedup: float | None


class Exported(_Plain):
    """Where the winner lies, and the largest difference of what its files compute."""

    folder: Path
    folder_difference: float
    onnx: Path
    onnx_difference: float


class AutoDistilAnswer(_Plain):
    """`similarity_spearman`: of the cosines of all pairs of held-out windows with the teacher's."""

    teacher: str
    sub_spaces: tuple[LearnedSpace, ...]
    steps: int
    batch: int
    tokens: int
    relation_heads: int
    similarity_weight: float
    judge: str
    within_limits: int
    scored: int
    conditions: Conditions | None
    winner: Student
    finished_steps: int
    similarity_spearman: float
    exported: Exported
    timed: tuple[Student, ...]
    ranked: tuple[Student, ...]


def student_of(candidate: Candidate) -> Student:
    """A candidate as plain data."""
    pace = candidate.pace
    return Student(
        architecture=candidate.spec.key,
        sub_space=candidate.sub_space,
        score=candidate.score,
        costs=candidate.costs,
        latency_ms=None if pace is None else pace.latency_ms,
        speedup=None if pace is None else pace.speedup,
    )


def autodistil_tables(answer: AutoDistilAnswer) -> Iterable[RenderableType]:
    """The winner, and the best students by score."""
    columns = ("architecture", "sub-space", answer.judge, "params_m", "flops_m", "ms", "speed-up")
    shown = {s.architecture: s for s in (*answer.ranked[:_SHOWN], *answer.timed, answer.winner)}
    rows = [_row(s) for s in sorted(shown.values(), key=lambda s: -s.score)]
    right = columns[2:]
    title = f"{answer.scored:,} of {answer.within_limits:,} students within the counted limits"
    yield table(title, columns, rows, right=right, whole=("architecture",))
    yield (
        f"winner {answer.winner.architecture}: rank correlation of its similarities with the "
        f"teacher's {answer.similarity_spearman:.3f}"
    )
    yield f"written to {answer.exported.folder} and {answer.exported.onnx}"


def _row(student: Student) -> tuple[object, ...]:
    paces = (student.latency_ms, student.speedup)
    return (
        student.architecture,
        student.sub_space,
        f"{student.score:.4f}",
        *(number(value) for value in student.costs.values()),
        *(None if value is None else f"{value:.2f}" for value in paces),
    )
