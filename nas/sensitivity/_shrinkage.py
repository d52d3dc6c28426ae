"""Covariances from few samples: off-diagonal entries shrunk by what is noise in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def shrunk_products(samples: Floats) -> tuple[Floats, float]:
    """Mean of s_c s_d over samples [n, C] -> [C, C], and the share taken off its off-diagonal.

    The share is the summed variance of the off-diagonal means over their summed squares, the least
    mean squared error (Schaefer and Strimmer 2005, Stat. Appl. Genet. Mol. Biol. 4, target D). A
    search over many swaps would else find the sums that cancel in these samples alone.
    """
    n = len(samples)
    products = np.asarray(samples.T @ samples / n)
    squares = np.square(samples)
    variance = (squares.T @ squares / n - np.square(products)) / max(n - 1, 1)
    off = ~np.eye(len(products), dtype=bool)
    power = float(np.square(products[off]).sum())
    share = float(np.clip(variance[off].sum() / power, 0.0, 1.0)) if power > 0 else 1.0
    shrunk = (1 - share) * products
    np.fill_diagonal(shrunk, np.diagonal(products))
    return shrunk, share
