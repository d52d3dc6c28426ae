"""Students inside larger encoders, against models that are cut by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.errors import ConfigError
from nas.supernet import RelationObjective, SuperNetwork, look, student_shape
from nas.supernet._network import sliced_chain
from tests.supernet.encoders import encoder, encoder_shape, spec, windows

WHOLE = spec(3, 4, 24, 1.5)


def by_hand(layers: int, heads: int, hidden: int, width: int, ids: Tensor) -> Tensor:
    """Last states of the first `layers`, `heads` and channels of `encoder()`, written out."""
    state_dict, dim = encoder().state_dict(), hidden // 4

    def weight(name: str) -> Tensor:
        return state_dict[name]

    def norm(x: Tensor, name: str) -> Tensor:
        gain, bias = (weight(f"{name}.{leaf}")[:hidden] for leaf in ("weight", "bias"))
        return F.layer_norm(x, (hidden,), gain, bias, encoder_shape().norm_eps)

    def head(x: Tensor, name: str, h: int) -> Tensor:
        rows = slice(6 * h, 6 * h + dim)
        return x @ weight(f"{name}.weight")[rows, :hidden].T + weight(f"{name}.bias")[rows]

    x = weight("embed.weight")[ids] + weight("positions.weight")[: ids.shape[1]]
    x = norm((x + weight("types.weight")[0])[..., :hidden], "embed_norm")
    for layer in range(layers):
        name = f"slots.{2 * layer}"
        update = weight(f"{name}.branch.o_proj.bias")[:hidden]
        for h in range(heads):
            q, k, v = (head(x, f"{name}.branch.{part}_proj", h) for part in "qkv")
            mixed = torch.softmax(q @ k.transpose(1, 2) / dim**0.5, dim=-1) @ v
            output = weight(f"{name}.branch.o_proj.weight")[:hidden, 6 * h : 6 * h + dim]
            update = update + mixed @ output.T
        x = norm(x + update, f"{name}.norm")
        name = f"slots.{2 * layer + 1}"
        up, down = (weight(f"{name}.branch.{part}_proj.weight") for part in ("up", "down"))
        inner = F.gelu(x @ up[:width, :hidden].T + weight(f"{name}.branch.up_proj.bias")[:width])
        update = inner @ down[:hidden, :width].T + weight(f"{name}.branch.down_proj.bias")[:hidden]
        x = norm(x + update, f"{name}.norm")
    return x


@pytest.mark.parametrize(
    ("layers", "heads", "hidden", "ratio"), [(3, 4, 24, 1.5), (2, 3, 16, 1.0), (1, 1, 12, 1.5)]
)
def test_an_extracted_student_is_the_first_of_everything(
    layers: int, heads: int, hidden: int, ratio: float
) -> None:
    ids, chosen = windows(3), spec(layers, heads, hidden, ratio)

    student = SuperNetwork(encoder(), WHOLE).extract(chosen)

    wanted = by_hand(layers, heads, hidden, round(hidden * ratio), ids)
    assert torch.allclose(student(ids), wanted, atol=1e-5)
    # A SuperLM counts the two token types and BERT's biases as its specification does.
    assert sum(p.numel() for p in student.parameters()) == chosen.size().params


def test_slices_of_slices_are_slices() -> None:
    teacher, middle, small = encoder(), spec(2, 3, 16, 1.5), spec(1, 2, 8, 1.0)

    twice = SuperNetwork(teacher, middle).extract(small).state_dict()

    once = sliced_chain(teacher, student_shape(teacher.shape, small)).state_dict()
    assert all(torch.equal(twice[name], once[name]) for name in once)


def test_a_subnet_in_training_sees_what_the_extracted_one_sees() -> None:
    ids, chosen = windows(3), spec(2, 3, 16, 1.0)
    network = SuperNetwork(encoder(), WHOLE)

    seen = network.look(chosen, ids, network.rows(ids), embeds=True)

    alone = look(network.extract(chosen), ids, embeds=True)
    assert seen.embeddings is not None
    assert alone.embeddings is not None
    for ours, theirs in zip(
        (*seen.vectors, seen.embeddings), (*alone.vectors, alone.embeddings), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_gradients_reach_the_slices_and_nothing_else() -> None:
    ids, chosen = windows(3), spec(2, 3, 16, 1.0)
    network, objective = SuperNetwork(encoder(), WHOLE), RelationObjective(4, 1.0)
    network.chain.requires_grad_(True)
    teacher = encoder(seed=3)

    rows = network.rows(ids)
    seen = network.look(chosen, ids, rows, embeds=True)
    objective.loss(seen, objective.goal(teacher, ids)).backward()

    gradients = {name: p.grad for name, p in network.chain.named_parameters()}
    query, down = (
        gradients[f"slots.{n}"] for n in ("0.branch.q_proj.weight", "3.branch.down_proj.weight")
    )
    assert query is not None
    assert down is not None
    kept = torch.zeros(4, 6, 24, dtype=torch.bool)
    kept[:3, :4, :16] = True
    assert torch.equal(query.reshape(4, 6, 24) != 0, kept)
    assert not down[16:].any()
    assert not down[:, 16:].any()
    assert down[:16, :16].any()
    assert gradients["slots.4.branch.q_proj.weight"] is None  # a layer it does not have
    table = gradients["embed.weight"]
    assert table is not None
    assert set(table.abs().sum(1).nonzero().flatten().tolist()) == set(ids.flatten().tolist())


def test_students_larger_than_the_teacher_are_refused() -> None:
    with pytest.raises(ConfigError, match="hidden size 32 cannot be sliced from the teacher's 24"):
        student_shape(encoder_shape(), spec(2, 3, 32, 1.0))
