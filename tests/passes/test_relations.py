"""Self-attention relations as a term of global distillation."""

from __future__ import annotations

import pytest
import torch

from nas.chain import Chain
from nas.config import DistillConfig
from nas.ir import Architecture
from nas.objectives import objective_of
from nas.passes.distill import _Network, _Teacher
from tests.encoders import MIXED_ENCODER, tiny_encoder

IDS = torch.randint(4, 18, (3, 7), generator=torch.Generator().manual_seed(0))
PARTS = 3


def _config(layer: int) -> DistillConfig:
    return DistillConfig(relation_weight=2.0, relation_layer=layer, relation_heads=PARTS)


def _learnt(layer: int) -> tuple[Chain, Chain, torch.Tensor | None]:
    """Teacher and student after the gradient of the term, and the term."""
    config = _config(layer)
    teacher = tiny_encoder(architecture=Architecture())
    student = tiny_encoder(architecture=MIXED_ENCODER, seed=1).requires_grad_(True)
    goal = _Teacher(teacher, objective_of(teacher), config)(IDS)
    _, _, relation = _Network(student, objective_of(student), config)(goal)
    if relation is not None:
        relation.backward()
    return teacher, student, relation


@torch.no_grad()
def _apart(teacher: Chain, student: Chain, layer: int) -> float:
    total = 0.0
    for name in ("q_proj", "k_proj", "v_proj"):
        logs = []
        for chain in (teacher, student):
            state = chain.run(chain.embed_tokens(IDS), chain.context(IDS), stop=2 * layer)
            said = chain.slot(2 * layer).get_submodule(f"branch.{name}")(state)
            cut = [p @ p.mT / p.shape[-1] ** 0.5 for p in said.tensor_split(PARTS, dim=-1)]
            logs.append(torch.stack(cut).log_softmax(-1))
        total += float((logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean())
    return total


@pytest.mark.parametrize(
    ("chosen", "layer"), [(0, 0), (3, 3), (-1, 3)], ids=["fewer heads", "pooled", "last"]
)
def test_the_relations_of_the_chosen_layer_are_learnt(chosen: int, layer: int) -> None:
    teacher, student, found = _learnt(chosen)
    assert found is not None
    assert float(found.detach()) == pytest.approx(_apart(teacher, student, layer), rel=0.05)
    assert float(found.detach()) > 0.01
    for name in ("q_proj", "k_proj", "v_proj"):
        gradient = student.slot(2 * layer).get_submodule(f"branch.{name}").weight.grad
        assert float(gradient.abs().max()) > 0
    # What follows the projections learns nothing by them.
    assert student.slot(7).get_submodule("branch.up_proj").weight.grad is None


def test_a_layer_without_attention_teaches_nothing() -> None:
    _, _, found = _learnt(1)
    assert found is None
