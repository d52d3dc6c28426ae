"""A small space, a proxy whose optimum is known, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from nas.networks import CifarResNet
from nas.proxies import Proxy, Trial
from nas.proxies import _registry as registry

SPACE = """
builder: cifar_resnet
description: a toy
blocks: [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]
widths: [2, 2, 2]
classes: 3
image_size: 4
"""
BEST = (2, 4, 1)


class NearBest(Proxy):
    """Nearness to the blocks of `BEST`; counts how often it was asked."""

    name = "near_best"
    cost = "count"
    source = "tests"
    calls: ClassVar[list[str]] = []

    def score(self, trial: Trial) -> float:
        network = trial.network()
        assert isinstance(network, CifarResNet)
        self.calls.append(network.spec.key)
        pairs = zip(network.spec.blocks, BEST, strict=True)
        return -float(sum((a - b) ** 2 for a, b in pairs))


class FirstWeight(Proxy):
    """The first weight of the network, plus the first pixel: another for each seed and batch."""

    name = "first_weight"
    cost = "forward"
    source = "tests"
    needs = frozenset({"data", "labels", "teacher"})

    def score(self, trial: Trial) -> float:
        weight = next(trial.network().parameters())
        return float(weight.detach().flatten()[0]) + float(trial.batch.inputs.flatten()[0])


@pytest.fixture(autouse=True)
def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    NearBest.calls.clear()
    for kind in (NearBest, FirstWeight):
        monkeypatch.setitem(registry._PROXIES, kind.name, kind)


@pytest.fixture
def space(tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(SPACE)
    return str(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.npz"
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    images = rng.integers(0, 80, (300, 4, 4, 3)) + 80 * np.eye(3, dtype=int)[labels][:, None, None]
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return path
