"""Tasks of lm-evaluation-harness, where it is installed: teacher beside student."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nas._imports import require
from nas.chain import DecoderChain
from nas.errors import ConfigError, PassError
from nas.evaluation._bootstrap import Retained, accuracy_retained

_ACCURACIES = ("acc", "acc_norm", "exact_match")
"""The harness's metrics that judge one item as right or wrong."""
_DEFAULT_FILTER = "none"

Answers = dict[tuple[str, str], dict[int, bool]]
"""(task, metric) -> item -> whether it was answered rightly."""


@dataclass(frozen=True)
class HarnessResult:
    """Accuracy of teacher and student on the same `items` items of one task under one metric.

    `accuracies`: the teacher's, the student's. `metric` is the harness's name, with its filter
    where that is not the default one, as in `exact_match,strict-match`.
    """

    task: str
    metric: str
    items: int
    accuracies: tuple[float, float]
    retained: Retained | None


class Harness:
    """The harness and its index of tasks, which takes seconds to read.

    Datasets come from the hub, unless a task names local files. The harness shows its own bars on
    stderr; `silent` hides them.
    """

    def __init__(self, *, silent: bool = True) -> None:
        """Raises CapabilityError where the package is missing."""
        self._lm_eval = _module("lm_eval")
        self._tasks = _module("lm_eval.tasks").TaskManager()
        self._silent = silent

    def check(self, names: Iterable[str]) -> None:
        """Raise ConfigError for a task or group of tasks that the harness does not know."""
        known = self._tasks.all_tasks
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else "see `lm_eval ls tasks`"
                raise ConfigError(f"lm-evaluation-harness has no task {name!r}; {hint}")

    def compare(
        self,
        name: str,
        teacher: DecoderChain,
        student: DecoderChain,
        tokenizer: Any,
        *,
        limit: int | None = None,
        batch: int = 8,
    ) -> list[HarnessResult]:
        """Both models on the first `limit` items of a task, or of every task of a group.

        The chains compute in their own number format. Raises ConfigError where the task does not
        judge its items as right or wrong, PassError where the harness cannot run it.
        """
        expected = self._answers(name, teacher, tokenizer, limit, batch)
        found = self._answers(name, student, tokenizer, limit, batch)
        return [
            _beside(task, metric, right, found[task, metric])
            for (task, metric), right in expected.items()
            if (task, metric) in found
        ]

    def _answers(
        self, name: str, chain: DecoderChain, tokenizer: Any, limit: int | None, batch: int
    ) -> Answers:
        from nas.backends.huggingface import transformers_model

        wrapper = _module("lm_eval.models.huggingface").HFLM
        settings = {"tokenizer": tokenizer, "backend": "causal", "batch_size": batch}
        with _hushed(self._silent), _explained(name):
            found = self._lm_eval.simple_evaluate(
                model=wrapper(pretrained=transformers_model(chain), **settings),
                tasks=[name],
                task_manager=self._tasks,
                limit=limit,
                bootstrap_iters=0,  # its interval is not of the ratio of two models
            )
        answers = _judged(found["samples"])
        if not answers:
            raise ConfigError(
                f"lm-evaluation-harness task {name!r} does not judge items as right or wrong "
                f"({', '.join(_ACCURACIES)}), so no accuracy can be retained; choose another task"
            )
        return answers


def _module(name: str) -> Any:
    return require(name, extra="eval")


def _judged(samples: dict[str, Sequence[dict[str, Any]]]) -> Answers:
    """The items that have an accuracy, of every task; a metric of shares is left out."""
    answers: Answers = {}
    shares = set()
    for task, items in samples.items():
        for item in items:
            for metric in _ACCURACIES:
                if metric not in item:
                    continue
                filtered = "" if item["filter"] == _DEFAULT_FILTER else f",{item['filter']}"
                key = (task, metric + filtered)
                answers.setdefault(key, {})[item["doc_id"]] = bool(item[metric])
                if item[metric] not in (0, 1):
                    shares.add(key)
    return {key: right for key, right in answers.items() if key not in shares}


def _beside(
    task: str, metric: str, teacher: dict[int, bool], student: dict[int, bool]
) -> HarnessResult:
    right, kept = list(teacher.values()), [student[item] for item in teacher]
    return HarnessResult(
        task=task,
        metric=metric,
        items=len(right),
        accuracies=(sum(right) / len(right), sum(kept) / len(kept)),
        retained=accuracy_retained(right, kept),
    )


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """PassError for whatever the harness, its dataset or the hub raises."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PassError(
            f"lm-evaluation-harness cannot run {name!r}: {reason} (datasets come from the hub: "
            f"check network and access)"
        ) from error


@contextlib.contextmanager
def _hushed(silent: bool) -> Iterator[None]:
    """Only errors of the harness are logged inside; `silent`: its bars are hidden, too."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()) if silent else contextlib.nullcontext():
            yield
    finally:
        logger.setLevel(level)
