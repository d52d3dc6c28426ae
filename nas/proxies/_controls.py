"""What a proxy must be compared with before it may claim to have learnt from data or teacher."""

from __future__ import annotations

import torch

from nas.proxies._base import Batch, Proxy, Trial, draw_normal
from nas.proxies._diswot import relation_similarity


class PixelGram(Proxy):
    """M_r of DisWOT with the raw pixels in place of a teacher's features.

    A teacher term that ranks no better than this one owes nothing to the teacher.
    """

    name = "pixel_gram"
    needs = frozenset({"data"})
    over = "pictures"
    cost = "forward"
    source = "control; this project"

    def score(self, trial: Trial) -> float:
        network = trial.image_network()
        draw_normal(network, trial.generator())
        with torch.no_grad():
            features = network.features(trial.batch.inputs)
        return relation_similarity(trial.batch.inputs, features)


def noise_pictures(batch: Batch, seed: int = 0) -> Batch:
    """N(0, 1) in place of the pictures; labels stay. What ranks as well owes nothing to them."""
    generator = torch.Generator().manual_seed(seed)
    shape = batch.inputs.shape
    return Batch(torch.randn(shape, generator=generator).to(batch.inputs), batch.labels)


def random_labels(batch: Batch, seed: int = 0) -> Batch:
    """The labels dealt out anew: as many of each class, on other pictures."""
    labels = batch.labelled()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return Batch(batch.inputs, labels[order])
