"""Run directories as the compiler leaves them, made without compiling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from nas.config import load_config
from nas.report import Summary
from nas.run import RunDirectory, json_writer, write_atomically
from tests.report.example_summary import example_summary

CANDIDATES = [
    {"slot": {"layer": layer, "kind": kind}, "spec": {"kind": "skip"}}
    for layer in range(2)
    for kind in ("attention", "ffn")
]


def make_run(root: Path, config: Path, overrides: Sequence[str] = ()) -> RunDirectory:
    """A run that stopped after two of its four blocks were built."""
    run = RunDirectory.create(root)
    settings = load_config(config, overrides).model_dump(mode="json")
    write_atomically(run.path("config.resolved.yaml"), yaml.safe_dump(settings))
    run.store("space", "k", {"space.json": json_writer({"candidates": CANDIDATES})})
    run.store("measure/costs", "k", {"costs/costs.json": json_writer({})}, seconds=2.0)
    for slot in ("layers.0.attention", "layers.0.ffn"):
        files = {f"library/{slot}/skip/meta.json": json_writer({})}
        run.store(f"build/{slot}/skip", "k", files, seconds=30.0)
    return run


def add_summary(run: RunDirectory, summary: Summary | None = None) -> None:
    """Write `report/summary.json` and something that stands for the page."""
    found = summary or example_summary()
    files = {"report/summary.json": json_writer(found)}
    run.store("report", "k", files)
    write_atomically(run.path("report", "report.html"), "<html></html>")
