"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nas.teachers import Teacher


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small matrices gain nothing from threads, and sums then add up in one order."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_folder(family)`: a saved tiny teacher, made once a session; do not write into it."""
    from tests.models import save_tiny_teacher

    made: dict[str, Path] = {}

    def folder(family: str = "llama") -> Path:
        if family not in made:
            made[family] = save_tiny_teacher(tmp_path_factory.mktemp(family), family)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def tiny_teacher(tiny_folder: Callable[[str], Path]) -> Teacher:
    """A loaded Llama teacher of two layers; do not change its weights."""
    from nas.config import TeacherConfig
    from nas.teachers import load_teacher

    return load_teacher(TeacherConfig(source=str(tiny_folder("llama"))))
