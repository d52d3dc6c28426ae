"""Which of the teacher's query heads to keep."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.blocks._elimination import Elimination
from nas.errors import ConfigError
from nas.ir import GroupedQueryAttention, TransformerShape


def kept_heads(
    shape: TransformerShape, gram: Tensor, output: Tensor, spec: GroupedQueryAttention, ridge: float
) -> Tensor:
    """Query heads [spec.kv_heads, heads of a group] of the teacher, ascending, by elimination.

    `gram` [p, p] holds the products of the teacher's head outputs, `output` [hidden, p] its output
    projection. Whole groups go first, the one that the others replace best at a time; then every
    group gives up one head after another, so that all stay equally large. Raises ConfigError for
    more heads, or larger groups, than the teacher has.
    """
    assert spec.query_heads is not None
    group, left = shape.query_heads // shape.kv_heads, spec.query_heads // spec.kv_heads
    if spec.kv_heads > shape.kv_heads or left > group:
        raise ConfigError(
            f"{spec.query_heads} query heads on {spec.kv_heads} KV heads are not among the "
            f"teacher's {shape.query_heads} on {shape.kv_heads}"
        )
    elimination = Elimination.of_layer(gram, output, ridge)
    groups = [[g * group + i for i in range(group)] for g in range(shape.kv_heads)]
    while len(groups) > spec.kv_heads:
        units = [columns(torch.tensor(heads), shape.head_dim) for heads in groups]
        del groups[elimination.remove_cheapest([u.to(gram.device) for u in units])]
    for _ in range(group - left):
        _drop_one_each(elimination, groups, shape.head_dim)
    return torch.tensor(groups, device=gram.device)


def _drop_one_each(elimination: Elimination, groups: list[list[int]], head_dim: int) -> None:
    """Every group loses one head, in the order in which they cost least."""
    waiting = [(heads, head) for heads in groups for head in heads]
    while waiting:
        units = [columns(torch.tensor([head]), head_dim) for _, head in waiting]
        device = elimination.alive.device
        heads, head = waiting[elimination.remove_cheapest([u.to(device) for u in units])]
        heads.remove(head)
        waiting = [(others, h) for others, h in waiting if others is not heads]


def columns(heads: Tensor, head_dim: int) -> Tensor:
    """Channels of the given heads."""
    return (heads[:, None] * head_dim + torch.arange(head_dim, device=heads.device)).flatten()
