"""Covariances from few samples: off-diagonal entries shrunk by what is noise in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def shrunk_products(samples: Floats, groups: Sequence[object]) -> tuple[Floats, float]:
    """Mean of s_c s_d over samples [n, C] -> [C, C], and the share taken off between groups.

    `groups` [C]: entries within a group are left as they are and do not enter the share. It is the
    summed variance of the means between groups over their summed squares, the least mean squared
    error (Schaefer and Strimmer 2005, Stat. Appl. Genet. Mol. Biol. 4, target D). A search over
    many swaps would else find the sums that cancel in these samples alone.
    """
    n = len(samples)
    names = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    between = names[:, None] != names[None, :]
    products = np.asarray(samples.T @ samples / n)
    squares = np.square(samples)
    variance = (squares.T @ squares / n - np.square(products)) / max(n - 1, 1)
    power = float(np.square(products[between]).sum())
    certain = n > 1 and power > 0
    share = float(np.clip(variance[between].sum() / power, 0.0, 1.0)) if certain else 1.0
    return np.where(between, (1 - share) * products, products), share
