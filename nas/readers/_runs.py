"""An existing run and the configuration that it stores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from nas.config import RunConfig, load_config
from nas.errors import ArtifactError
from nas.run import RunDirectory, UnitRecord

CONFIG = "config.resolved.yaml"


def open_run(root: Path) -> RunDirectory:
    """The run at `root`; raises ArtifactError."""
    return RunDirectory.open(root)


def read_config(run: RunDirectory, overrides: Sequence[str] = ()) -> RunConfig:
    """The stored configuration with `KEY=VALUE` overrides; raises ArtifactError, ConfigError."""
    path = run.path(CONFIG)
    if not path.is_file():
        raise ArtifactError(
            f"{run.root} has no {CONFIG}: no pass was started on it yet; "
            f"start it with: nas run CONFIG --output {run.root}"
        )
    return load_config(path, overrides)


def with_tasks(
    run: RunDirectory,
    overrides: Sequence[str],
    *,
    files: Sequence[Path],
    lm_eval: Sequence[str],
    limit: int | None,
) -> RunConfig:
    """The stored configuration with more task files and tasks of lm-evaluation-harness, `limit`
    questions of each."""
    known = read_config(run, overrides).evaluate
    paths = [str(path) for path in dict.fromkeys((*known.tasks, *files))]
    names = list(dict.fromkeys((*known.lm_eval, *lm_eval)))
    if files:
        overrides = (*overrides, f"evaluate.tasks={json.dumps(paths)}")
    if lm_eval:
        overrides = (*overrides, f"evaluate.lm_eval={json.dumps(names)}")
    if limit is not None:
        overrides = (*overrides, f"evaluate.limit={limit}")
    return read_config(run, overrides)


def unit_records(run: RunDirectory) -> Iterator[UnitRecord]:
    """Every unit on record, unchecked."""
    folder = run.path("units")
    for path in sorted(folder.rglob("*.json")):
        record = run.record(str(path.relative_to(folder).with_suffix("")))
        if record is not None:
            yield record
