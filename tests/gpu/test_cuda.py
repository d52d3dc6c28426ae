"""The passes that compute, on a GPU: what they find is what a CPU finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas.blocks import QuantisedLinear, hold_halves
from nas.config import validate_config
from nas.passes import Artefacts, PassContext
from nas.run import RunDirectory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

# Matrix products are bfloat16 where the device has it, so figures differ in the third digit.
LOCAL_ERROR = {"rtol": 0.05, "atol": 2e-3}
SCORE_NATS = {"rtol": 0.05, "atol": 2e-3}
LOSS = {"rtol": 0.05, "atol": 2e-3}


@pytest.fixture(scope="module")
def pair(
    tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artefacts]:
    """The same small run on both devices; the roofline meter measures nothing."""

    def make(device: str) -> Artefacts:
        settings: dict[str, Any] = {
            "name": "gpu",
            "teacher": {"source": str(tiny_folder("llama")), "device": device},
            "data": {"sequence_length": 32, "score_sequences": 4, "train_tokens": 4096},
            "target": {"hardware": "rtx4090", "meter": "roofline", "prompt_tokens": 16},
            "budgets": {"params_m": 0.027},
            "build": {"tokens": 2048, "epochs": 1, "batch_tokens": 256},
            "distill": {"steps": 6, "batch_tokens": 128, "checkpoint_every": 3},
            "baselines": [],
        }
        run = RunDirectory.create(tmp_path_factory.mktemp(device) / "run")
        return Artefacts(PassContext(validate_config(settings, "test"), run))

    return {device: make(device) for device in ("cpu", "cuda")}


def test_the_teacher_is_on_the_device_and_says_the_same(pair: dict[str, Artefacts]) -> None:
    chains = {name: view.context.teacher.chain for name, view in pair.items()}
    assert {p.device.type for p in chains["cuda"].parameters()} == {"cuda"}
    ids = pair["cpu"].context.text.score
    on_gpu = chains["cuda"](ids.to("cuda")).cpu()
    torch.testing.assert_close(on_gpu, chains["cpu"](ids), atol=1e-3, rtol=1e-3)


def test_blocks_have_the_same_error(pair: dict[str, Artefacts]) -> None:
    found = {}
    for name, view in pair.items():
        records = [view.context.run.require(f"build/{block}").data for block in view.block_keys]
        found[name] = [[r["initial_error"], r["trained_error"] or 0.0] for r in records]
    assert len(found["cpu"]) == len(pair["cpu"].candidates)
    np.testing.assert_allclose(found["cuda"], found["cpu"], **LOCAL_ERROR)


def test_candidates_have_the_same_scores(pair: dict[str, Artefacts]) -> None:
    cpu, gpu = pair["cpu"].scores, pair["cuda"].scores
    assert cpu.keys() == gpu.keys()
    for name in cpu:
        np.testing.assert_allclose(gpu[name], cpu[name], **SCORE_NATS, err_msg=name)


def test_distillation_follows_the_same_curve(pair: dict[str, Artefacts]) -> None:
    """The student of the CPU's scores on both, so that one close call does not decide."""
    from nas.passes.assemble import assemble_students
    from nas.passes.students import distill_students, distilled

    student = pair["cpu"].architectures["student"]
    curves = {}
    for name, view in pair.items():
        keys = assemble_students(view.context, {"student": student}, view.block_keys)
        distill_students(view.context, {"student": student}, keys)
        curves[name] = view.context.run.require("distill/student").data
    for loss in ("kl", "cosine"):
        np.testing.assert_allclose(curves["cuda"][loss], curves["cpu"][loss], **LOSS)
    restored = distilled(pair["cuda"].context, "student", student)
    assert {p.device.type for p in restored.parameters()} == {"cuda"}


def test_products_of_halves_are_those_that_stand_for_them() -> None:
    """Blocks of half precision are computed in float32 everywhere but where they are timed."""
    torch.manual_seed(0)
    layer = QuantisedLinear.of(nn.Linear(512, 256), "float16").cuda().requires_grad_(False)
    x = torch.randn(3, 40, 512, device="cuda")
    wanted, exact = layer(x), nn.functional.linear(x, layer.weight, layer.bias)
    hold_halves(layer)
    found = layer(x)
    rounding = (wanted - exact).square().mean().sqrt()
    assert (found - wanted).square().mean().sqrt() < 0.5 * rounding
