"""DisWOT: how alike an untrained student and its teacher see classes and samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from nas.errors import ConfigError
from nas.proxies._base import Proxy, Trial, draw_normal, head_gradient

_SOURCE = "Dong et al., DisWOT, CVPR 2023 (arXiv 2303.15678)"


class DiswotSemantic(Proxy):
    """M_s: minus the distance of channel correlations in the class-activation maps.

    The map of class k is the gradient of the cross-entropy by row k of the head, g_k in R^C (with
    global pooling the weights of Grad-CAM). With G_k = g_k g_k' and n dividing every row by its
    length, M_s = -1/(K C) sum_k ||n(G_k of the teacher) - n(G_k of the student)||^2. The student is
    initialised from N(0, 1) as in the paper. Both need the same number of channels C; it is nan
    where they differ.
    """

    name = "diswot_semantic"
    needs = frozenset({"data", "labels", "teacher"})
    over = "pictures"
    cost = "backward"
    source = _SOURCE

    def score(self, trial: Trial) -> float:
        return semantic_similarity(trial.followed().head_gradient, _student(trial)[1])


class DiswotRelation(Proxy):
    """M_r: minus the distance of sample correlations, any widths.

    M_r = -||n(A A')_T - n(A A')_S||^2 / N^2 for features A flattened to [N, C h w].
    """

    name = "diswot_relation"
    needs = frozenset({"data", "teacher"})
    over = "pictures"
    cost = "forward"
    source = _SOURCE

    def score(self, trial: Trial) -> float:
        network = trial.image_network()
        draw_normal(network, trial.generator())
        with torch.no_grad():
            features = network.features(trial.batch.inputs)
        return relation_similarity(trial.followed().features, features)


class Diswot(Proxy):
    """M_s + M_r, unscaled as in the paper, so that the wider spread, that of M_s, decides."""

    name = "diswot"
    needs = frozenset({"data", "labels", "teacher"})
    over = "pictures"
    cost = "backward"
    source = _SOURCE

    def score(self, trial: Trial) -> float:
        features, gradient = _student(trial)
        teacher = trial.followed()
        semantic = semantic_similarity(teacher.head_gradient, gradient)
        return semantic + relation_similarity(teacher.features, features)


def semantic_similarity(teacher: Tensor, student: Tensor) -> float:
    """M_s of two gradients [classes, C]; nan where C differs.

    Raises:
        ConfigError: the two tell different numbers of classes apart.
    """
    if len(teacher) != len(student):
        raise ConfigError(
            f"the teacher has {len(teacher)} classes, the student {len(student)}; "
            "build the student with the teacher's classes"
        )
    if teacher.shape[1] != student.shape[1]:
        return float("nan")
    ours, theirs = student.double(), teacher.double()
    cosine = (normalize(ours, dim=1) * normalize(theirs, dim=1)).sum(dim=1)
    signs, other = ours.sign(), theirs.sign()
    # Row i of n(g g') is sign(g_i) g / |g|: the C x C matrices need not be written out.
    squares = (signs.square() + other.square()).mean(dim=1)
    return -float((squares - 2 * (signs * other).mean(dim=1) * cosine).mean())


def relation_similarity(teacher: Tensor, student: Tensor) -> float:
    """M_r of two feature maps with the same samples first."""
    difference = _rows(gram(teacher)) - _rows(gram(student))
    return -float(difference.square().mean())


def gram(features: Tensor) -> Tensor:
    """[N, N] products of flattened samples, in double precision."""
    flat = features.detach().flatten(1).double()
    return flat @ flat.T


def _student(trial: Trial) -> tuple[Tensor, Tensor]:
    """Features and head gradient of the student, initialised as in the paper."""
    network = trial.image_network()
    draw_normal(network, trial.generator())
    with torch.no_grad():
        features = network.features(trial.batch.inputs)
    return features, head_gradient(features, network.head, trial.batch.labelled())


def _rows(matrix: Tensor) -> Tensor:
    return normalize(matrix, dim=-1, eps=1e-300)
