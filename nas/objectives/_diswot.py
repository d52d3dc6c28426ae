"""DisWOT's two metrics as losses (Dong, Li and Wei 2023, arXiv 2303.15678, section 3.4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """How unlike the pictures stand to each other, from features [N, C, h, w] of any C, h and w.

    Correlation matrices [N, N] of the flattened features, rows of length 1; the mean squared
    distance between their rows, 0 to 4.
    """
    return _rows_apart(_gram(student.flatten(1)), _gram(teacher.flatten(1)))


def semantic_loss(
    student: Tensor,
    teacher: Tensor,
    student_weights: Tensor,
    teacher_weights: Tensor,
    labels: Tensor,
) -> Tensor:
    """How unlike channels go together in the maps of the true classes.

    Features [N, C, h, w] times the head's weights [classes, C] of each label are class-activation
    maps; their channel correlations [C, C] are compared as rows of length 1. Both networks have
    the same C.
    """
    return _rows_apart(
        _gram(_maps(student, student_weights, labels)),
        _gram(_maps(teacher, teacher_weights, labels)),
    )


def _maps(features: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
    """[C, N * h * w]."""
    return (features * weights[labels][:, :, None, None]).transpose(0, 1).flatten(1)


def _gram(rows: Tensor) -> Tensor:
    return F.normalize(rows @ rows.T, dim=1)


def _rows_apart(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).square().sum(dim=1).mean()
