"""Pictures as networks take them."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.ir import PictureShape


def normalised(pictures: Tensor, shape: PictureShape) -> Tensor:
    """Bytes [pictures, 3, h, w] as the network takes them, in float32."""
    mean, std = (
        torch.tensor(values, device=pictures.device).view(3, 1, 1)
        for values in (shape.image_mean, shape.image_std)
    )
    return (pictures.float() / 255 - mean) / std
