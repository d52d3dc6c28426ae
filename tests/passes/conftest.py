"""A small run that the passes are tested on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.config import RunConfig, validate_config
from nas.passes import Artefacts, PassContext
from nas.run import RunDirectory


@pytest.fixture(scope="session")
def small_config(tiny_folder: Callable[[str], Path]) -> Callable[..., RunConfig]:
    """`small_config(section={...})`: a run that the roofline meter makes quick."""

    def make(**sections: Any) -> RunConfig:
        settings: dict[str, Any] = {
            "name": "small",
            "teacher": {"source": str(tiny_folder("llama"))},
            "data": {
                "sequence_length": 24,
                "score_sequences": 3,
                "evaluate_tokens": 240,
                "train_tokens": 2400,
            },
            "target": {
                "hardware": "rtx4090",
                "meter": "roofline",
                "prompt_tokens": 16,
                "output_tokens": 8,
            },
            "budgets": {"params_m": 0.027},
            "build": {"tokens": 960},
            "distill": {
                "steps": 4,
                "batch_tokens": 96,
                "micro_batch_tokens": 48,
                "checkpoint_every": 2,
                "learning_rate": 1e-3,
            },
            "export": {"formats": ["huggingface"], "greedy_tokens": 4},
            "evaluate": {"generations": 2, "prompt_tokens": 6, "generate_tokens": 6},
        }
        for name, value in sections.items():
            known = settings.get(name)
            merged = isinstance(known, dict) and name != "budgets"
            settings[name] = {**known, **value} if merged else value
        return validate_config(settings, "test")

    return make


@pytest.fixture
def artefacts(small_config: Callable[..., RunConfig], tmp_path: Path) -> Callable[..., Artefacts]:
    """`artefacts(**sections)`: a fresh view on the run in `tmp_path`."""

    def make(**sections: Any) -> Artefacts:
        run = RunDirectory.create(tmp_path / "run")
        return Artefacts(PassContext(small_config(**sections), run))

    return make
