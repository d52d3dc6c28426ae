"""Teacher similarity that no choice of basis, width or scale can change."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nas.errors import ConfigError
from nas.proxies._base import Proxy, Trial
from nas.proxies._diswot import gram


class TeacherCka(Proxy):
    """Linear CKA between the features of student and teacher on the same samples.

    Features [N, C, h, w] are flattened a sample; the two may differ in everything but N. The
    estimator is unbiased (Nguyen et al., 2021, after Song et al., 2012), so that few samples do
    not make wide features look alike; it can be slightly negative. The student is as its builder
    initialises it: average over several seeds.
    """

    name = "teacher_cka"
    needs = frozenset({"data", "teacher"})
    over = "pictures"
    cost = "forward"
    source = "Kornblith et al., ICML 2019; Nguyen et al., ICLR 2021; as a proxy: this project"

    def score(self, trial: Trial) -> float:
        network = trial.image_network()
        with torch.no_grad():
            features = network.features(trial.batch.inputs)
        return cka(gram(features), gram(trial.followed().features))


def cka(left: Tensor, right: Tensor) -> float:
    """Unbiased CKA of two Gram matrices [N, N], N > 3; nan where one is constant."""
    scale = hsic(left, left) * hsic(right, right)
    return hsic(left, right) / math.sqrt(scale) if scale > 0 else math.nan


def hsic(left: Tensor, right: Tensor) -> float:
    """Unbiased HSIC of two Gram matrices [N, N] (Song et al., 2012, equation 5).

    Raises ConfigError for N < 4.
    """
    n = len(left)
    if n < 4:
        raise ConfigError(f"teacher_cka compares at least 4 samples; a batch of {n} is too small")
    k, m = left.clone().fill_diagonal_(0), right.clone().fill_diagonal_(0)
    own = (k * m).sum()
    mean = k.sum() * m.sum() / ((n - 1) * (n - 2))
    rows = 2 * (k.sum(dim=0) @ m.sum(dim=0)) / (n - 2)
    return float(own + mean - rows) / (n * (n - 3))
