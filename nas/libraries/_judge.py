"""How sure the answer of a library is: by its per-sequence scores, or by a stated noise."""

from __future__ import annotations

from nas.errors import ConfigError
from nas.ir.problem import Problem
from nas.libraries._answer import Answer, Answers
from nas.libraries._compare import compared
from nas.libraries._library import BlockLibrary
from nas.libraries._query import Query
from nas.progress import Progress
from nas.uncertainty import Noise, RelativeNoise, SequenceNoise, judge


def judged(
    library: BlockLibrary,
    problem: Problem,
    query: Query,
    answer: Answer,
    progress: Progress | None = None,
) -> Answer:
    """`answer` with its uncertainty where the query asks for it and there is a choice to judge."""
    if query.scrutiny is None or answer.infeasibility is not None:
        return answer
    found = judge(
        problem,
        answer.choice,
        _noise(library, problem, query),
        query.scrutiny,
        progress=progress,
        time_limit_s=query.time_limit_s,
    )
    return answer.model_copy(update={"uncertainty": found})


def all_compared(
    library: BlockLibrary, problem: Problem, query: Query, answers: Answers
) -> Answers:
    """`answers` with an interval each where the query asks for them."""
    if query.scrutiny is None or answers.infeasible is not None:
        return answers
    noise = _noise(library, problem, query)
    return compared(answers, problem, noise, query.scrutiny.confidence)


def _noise(library: BlockLibrary, problem: Problem, query: Query) -> Noise:
    """A stated noise is taken even where the file holds scores, which are of its own objective."""
    if query.noise is not None:
        return RelativeNoise(problem, query.noise)
    if not library.scores or query.objective not in (None, library.objective):
        raise ConfigError(
            f"--confidence: {library.path} holds no scores of single sequences for this objective; "
            "say how far its losses scatter, such as --noise 0.05"
        )
    return SequenceNoise(problem, library.scores)
