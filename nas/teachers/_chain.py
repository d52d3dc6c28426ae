"""Filling a chain with weights, one tensor at a time and without a second copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nas._documents import brief
from nas._memory import return_freed_memory
from nas.chain import Chain, DecoderChain, make_chain, rotary_embedding
from nas.errors import CapabilityError, ConfigError
from nas.ir import ChainShape, DecoderShape
from nas.streaming import StreamedChain
from nas.teachers._families import family_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nas.teachers._base import TeacherSource


class _NoInitialisation(TorchFunctionMode):
    """Random initialisation is skipped: on the meta device it would first import the compiler."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def build_chain(
    shape: ChainShape, read: Callable[[str], Tensor], dtype: torch.dtype, device: str
) -> Chain:
    """The chain of the teacher's own blocks, in eval mode and without gradients.

    `read` returns the tensor of one of the chain's parameter names. Raises ConfigError where a
    tensor has another shape than the configuration says. Rotary angles stay float32.
    """
    with torch.device("meta"), _NoInitialisation():
        chain = make_chain(shape)
    return _filled(chain, read, dtype, device, chain.state_dict().keys())


def stream_chain(
    shape: ChainShape, read: Callable[[str], Tensor], dtype: torch.dtype, device: str
) -> StreamedChain:
    """As `build_chain`, but the weights of slots are read when they are asked for.

    Raises CapabilityError for an encoder.
    """
    if not isinstance(shape, DecoderShape):
        raise CapabilityError(
            f"teacher.stream: a {shape.family} is held in memory whole; set teacher.stream to false"
        )
    return_freed_memory()
    with torch.device("meta"), _NoInitialisation():
        chain = StreamedChain(shape)
    expected = {name: tensor.shape for name, tensor in chain.state_dict().items()}
    chain.attach(lambda name: _checked(name, read(name), expected[name]), dtype, device)
    outer = [name for name in expected if not name.startswith("slots.")]
    _filled(chain, read, dtype, device, outer)
    return chain


def _filled(
    chain: Chain,
    read: Callable[[str], Tensor],
    dtype: torch.dtype,
    device: str,
    names: Collection[str],
) -> Chain:
    """`chain` with the weights `names`, in eval mode and without gradients."""
    shape, expected = chain.shape, chain.state_dict()
    tied = isinstance(shape, DecoderShape) and shape.tied_embeddings
    state: dict[str, Tensor] = {}
    for name in names:
        if name == "head.weight" and tied:
            state[name] = state["embed.weight"]
            continue
        tensor = _checked(name, read(name), expected[name].shape)
        state[name] = tensor.to(device=device, dtype=dtype)
    chain.load_state_dict(state, assign=True, strict=len(names) == len(expected))
    if isinstance(chain, DecoderChain):
        if tied:
            chain.head.weight = chain.embed.weight
        chain.rotary = _rotary(chain.shape).to(device)
    if dtype != torch.float32:
        chain.residual_dtype = (
            torch.float32
        )  # else small differences drown in the stream's rounding
    chain.eval().requires_grad_(False)
    return chain


def _checked(name: str, tensor: Tensor, expected: torch.Size) -> Tensor:
    if tensor.shape != expected:
        raise ConfigError(
            f"the teacher's {name} has shape {list(tensor.shape)}, its configuration says "
            f"{list(expected)}; use the config.json the weights were saved with"
        )
    return tensor


def _rotary(shape: DecoderShape) -> nn.Module:
    """Raises ConfigError; transformers raises whatever a value of the wrong kind leads to."""
    try:
        return rotary_embedding(shape)
    except Exception as error:
        raise ConfigError(
            f"the teacher's rope parameters {brief(shape.rope)} give no angles ({error}); "
            f"use the config.json the weights were saved with"
        ) from error


def chain_from_source(
    source: TeacherSource,
    shape: ChainShape,
    where: str,
    dtype: torch.dtype,
    device: str,
    *,
    stream: bool = False,
) -> Chain:
    """The chain of a source whose every tensor must be there and must be understood."""
    there = source.tensor_names()
    unread = set(there)

    def stored(name: str) -> str:
        found = source.foreign_name(name)
        if found not in there:
            raise ConfigError(
                f"{where}: the weights lack {found}; the checkpoint is incomplete or is not that "
                f"of the model its configuration describes"
            )
        unread.discard(found)
        return found

    def tensor(name: str) -> Tensor:
        return source.read(stored(name))

    make = stream_chain if stream else build_chain
    chain = make(shape, lambda name: source.parameter(name, tensor), dtype, device)
    if stream:
        for name in chain.state_dict():
            if name.startswith("slots."):
                stored(name)
    strange = sorted(name for name in unread if not source.ignorable(name))
    if strange:
        raise CapabilityError(
            f"{where}: the weights hold {strange[0]} ({len(strange)} tensors in all), which a "
            f"{shape.family} chain has no place for; choose a plain checkpoint of the model, in "
            f"Hugging Face format where this is a GGUF file"
        )
    return chain


def chain_from_model(model: PreTrainedModel) -> Chain:
    """The chain of a loaded transformers model, with copies of its weights.

    Raises CapabilityError for an architecture that is not supported.
    """
    family = family_of(model.config.model_type, type(model).__name__)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    shape = family.shape(config)
    state = model.state_dict()

    def read(name: str) -> Tensor:
        spellings = family.foreign_names(name)
        stored: Tensor = state[next(s for s in spellings if s in state)]
        return stored.clone()

    def parameter(name: str) -> Tensor:
        return family.parameter(name, read, shape)

    return build_chain(shape, parameter, model.dtype, str(model.device))
