"""Scores with gaps: NaN where a candidate had left the race before a sequence came."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def has_gaps(scores: Mapping[str, np.ndarray]) -> bool:
    return any(np.isnan(values).any() for values in scores.values())


def completed(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The scores without gaps (NaN), which a race leaves where a candidate was out.

    A gap is the candidate's mean, times the share by which the sequence is harder than those that
    it saw, to the candidates that saw all of them (ratio estimate; Cochran, Sampling Techniques).
    """
    gappy = [name for name, values in scores.items() if np.isnan(values).any()]
    if not gappy:
        return dict(scores)
    whole = [values for name, values in scores.items() if name not in set(gappy)]
    size = len(scores[gappy[0]])
    hardness = np.maximum(np.mean(whole, axis=0) if whole else np.ones(size), 1e-30)
    found = dict(scores)
    for name in gappy:
        known = ~np.isnan(scores[name])
        ratio = scores[name][known].mean() / hardness[known].mean()
        found[name] = np.where(known, scores[name], ratio * hardness)
    return found
