"""Classifiers of pictures: as plain layers for any back end, and as a folder that torch loads.

residuals = plain_blocks(chain)                # what every back end writes
export_folder(chain, folder, name="student")   # safetensors, config.json and the code
check_folder(folder, chain, pictures, tolerance=1e-4)
"""

from nas.backends.pictures._folder import check_folder, export_folder
from nas.backends.pictures._layers import (
    ConvLayer,
    Padded,
    Residual,
    opening_block,
    plain_blocks,
    plain_stem,
    slot_block,
)

__all__ = [
    "ConvLayer",
    "Padded",
    "Residual",
    "check_folder",
    "export_folder",
    "opening_block",
    "plain_blocks",
    "plain_stem",
    "slot_block",
]
