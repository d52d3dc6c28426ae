"""lm-evaluation-harness, where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas._imports import require
from nas.errors import ConfigError


def run_lm_eval(
    task_names: Sequence[str], hf_folder: Path, *, limit: int | None = None, batch: int = 8
) -> dict[str, dict[str, float]]:
    """Run tasks of the harness on a Hugging Face folder, a teacher's or an exported student's.

    Returns task -> metric (such as `acc,none` and `acc_stderr,none`) -> value. Students load with
    nas's own classes; no code of the folder is run. Raises CapabilityError without the package and
    ConfigError for a task that it does not know.
    """
    lm_eval = require("lm_eval", package="lm_eval")
    tasks = require("lm_eval.tasks", package="lm_eval")
    from nas.backends.huggingface import register_auto_classes

    register_auto_classes()
    manager = tasks.TaskManager()
    unknown = [name for name in task_names if not manager.match_tasks([name])]
    if unknown:
        raise ConfigError(
            f"lm-evaluation-harness has no task {unknown[0]!r}; see `lm_eval ls tasks`"
        )
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(hf_folder), "trust_remote_code": False},
        tasks=list(task_names),
        task_manager=manager,
        limit=limit,
        batch_size=batch,
    )
    return {
        task: {name: float(value) for name, value in metrics.items() if _is_number(value)}
        for task, metrics in found["results"].items()
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
