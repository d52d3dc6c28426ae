"""Fixtures of the command-line tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nas.cli import main
from nas.starter import write_starter

Nas = Callable[..., Result]


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nas:
    """`nas("run", config)`: the result of a call made in an empty folder, off a terminal."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NAS_DEBUG", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A valid configuration of a run called my-student."""
    path = tmp_path / "nas.yaml"
    write_starter(path)
    return path
