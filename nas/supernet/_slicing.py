"""Smaller encoders inside larger ones: the first layers, heads and channels of each weight.

One rule serves three times: it makes a SuperLM from the teacher, a subnet from the SuperLM, and the
model that is extracted in the end. Slices of slices are slices, so a subnet starts from the same
weights whether or not a SuperLM stands between it and the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from nas.errors import ConfigError
from nas.ir import EncoderShape
from nas.networks import BertSpec

Axis = Literal["all", "hidden", "heads", "ffn"]

_AXES: Mapping[str, tuple[Axis, Axis]] = {
    "embed": ("all", "hidden"),
    "positions": ("all", "hidden"),
    "types": ("all", "hidden"),
    "embed_norm": ("hidden", "all"),
    "norm": ("hidden", "all"),
    "q_proj": ("heads", "hidden"),
    "k_proj": ("heads", "hidden"),
    "v_proj": ("heads", "hidden"),
    "o_proj": ("hidden", "heads"),
    "up_proj": ("ffn", "hidden"),
    "down_proj": ("hidden", "ffn"),
}
"""Rows and columns of the weight of a module; a bias has rows alone."""


def student_shape(teacher: EncoderShape, spec: BertSpec) -> EncoderShape:
    """The shape of a student that is sliced from `teacher`; raises ConfigError where it sticks out.

    Heads have `spec.head_dim` channels each, so that heads and hidden size are free of each other.
    """
    wanted = {
        "layers": (spec.layers, teacher.layers),
        "heads": (spec.heads, teacher.query_heads),
        "hidden size": (spec.hidden, teacher.hidden_size),
        "channels of a head": (spec.head_dim, teacher.head_dim),
        "FFN width": (spec.mlp_width, teacher.ffn_width),
    }
    for what, (asked, there) in wanted.items():
        if not 0 < asked <= there:
            raise ConfigError(
                f"{spec.key}: {what} {asked} cannot be sliced from the teacher's {there}; choose a "
                f"space whose students are no larger than the teacher"
            )
    return teacher.model_copy(
        update={
            "layers": spec.layers,
            "hidden_size": spec.hidden,
            "query_heads": spec.heads,
            "kv_heads": spec.heads,
            "head_dim": spec.head_dim,
            "ffn_width": spec.mlp_width,
        }
    )


def sliced(name: str, tensor: Tensor, large: EncoderShape, small: EncoderShape) -> Tensor:
    """The part of the parameter `name` of an encoder of `large` that one of `small` has.

    Differentiable; a view wherever the part is a block of `tensor`. Of each head that is kept, its
    first channels are.
    """
    axes = _AXES[name.split(".")[-2]]
    for dim, axis in zip(range(tensor.ndim), axes, strict=False):
        tensor = _narrowed(tensor, dim, axis, large, small)
    return tensor


def sliced_state(
    state: Mapping[str, Tensor], names: list[str], large: EncoderShape, small: EncoderShape
) -> dict[str, Tensor]:
    """The parameters `names` of an encoder of `small` from the `state` of one of `large`."""
    return {name: sliced(name, state[name], large, small) for name in names}


def _narrowed(
    tensor: Tensor, dim: int, axis: Axis, large: EncoderShape, small: EncoderShape
) -> Tensor:
    match axis:
        case "hidden":
            return tensor.narrow(dim, 0, small.hidden_size)
        case "ffn":
            return tensor.narrow(dim, 0, small.ffn_width)
        case "heads":
            if small.head_dim == large.head_dim:
                return tensor.narrow(dim, 0, small.query_heads * small.head_dim)
            heads: Tensor = tensor.unflatten(dim, (large.query_heads, large.head_dim))
            kept = heads.narrow(dim, 0, small.query_heads).narrow(dim + 1, 0, small.head_dim)
            joined: Tensor = kept.flatten(dim, dim + 1)
            return joined
    return tensor
