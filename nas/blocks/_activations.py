"""Activation functions by the name that transformers gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from nas.errors import CapabilityError

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


def activation_of(name: str) -> Callable[[Tensor], Tensor]:
    """The function; raises CapabilityError for a name that is not known."""
    if name not in _ACTIVATIONS:
        raise CapabilityError(
            f"activation {name!r} is not supported; known: {sorted(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]
