"""A chain whose slots stay in their files: one of them is in memory at a time."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from nas.chain import DecoderChain, SlotModule
from nas.errors import PassError

Read = Callable[[str], Tensor]
"""The tensor of one of the chain's parameter names, as it is stored."""


class StreamedChain(DecoderChain):
    """A frozen teacher that reads a slot's weights when `slot(k)` asks for them.

    Embeddings, final norm and head are in memory; the parameters of `slots` have shapes and nothing
    else. Who keeps what `slot` returned keeps its weights alive. Made on the meta device, then
    given its weights by `attach`.
    """

    _resident: tuple[int, SlotModule] | None = None
    _read: Read
    _formats: tuple[torch.dtype, ...] = ()
    _device = "cpu"

    def attach(self, read: Read, dtype: torch.dtype, device: str) -> None:
        """Weights come from `read`, which also checks their shapes, in `dtype` on `device`."""
        self._read, self._formats, self._device = read, (dtype,), device

    def slot(self, k: int) -> SlotModule:
        """The module of slot k with its weights."""
        if self._resident is None or self._resident[0] != k:
            self._resident = None  # before the next one's weights are read
            self._resident = (k, self._loaded(k))
        return self._resident[1]

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """As of any chain; the slots of the copy are converted as they are read."""
        self._resident = None
        found = super().in_dtype(dtype)
        if found is not self:
            assert isinstance(found, StreamedChain)
            found._formats = (*self._formats, dtype)
        return found

    def whole(self) -> DecoderChain:
        """A chain with all weights at once, which have to fit in memory."""
        with torch.device("meta"):
            chain = DecoderChain(self.shape)
        chain.embed, chain.norm, chain.head = self.embed, self.norm, self.head
        chain.slots = nn.ModuleList(self._loaded(k) for k in range(len(self.slots)))
        chain.rotary, chain.residual_dtype = self.rotary, self.residual_dtype
        return chain.eval().requires_grad_(False)

    def _loaded(self, k: int) -> SlotModule:
        module = copy.deepcopy(super().slot(k))
        state = {name: self._tensor(f"slots.{k}.{name}") for name in module.state_dict()}
        module.load_state_dict(state, assign=True)
        return module.eval().requires_grad_(False)

    def _tensor(self, name: str) -> Tensor:
        stored = tensor = self._read(name)
        tensor = tensor.to(self._device)
        for dtype in self._formats:
            tensor = tensor.to(dtype)
        # A view would keep the whole file mapped, once for each tensor.
        return tensor.clone() if tensor is stored else tensor


def mapped_like(tensor: Tensor, folder: Path | None, dtype: torch.dtype | None = None) -> Tensor:
    """An uninitialised array shaped like `tensor`, in a file of `folder` mapped into memory.

    The system writes it out where memory is short. The file has no name any more, so its space is
    free when the array goes. Where `folder` is None, or the tensor is on another device, it is an
    ordinary array. Raises PassError where the disk has no room.
    """
    dtype = dtype or tensor.dtype
    if folder is None or tensor.device.type != "cpu" or not tensor.numel():
        return torch.empty_like(tensor, dtype=dtype, memory_format=torch.contiguous_format)
    path = folder / f".activations.{os.getpid()}.tmp"
    try:
        with path.open("wb") as file:  # else a full disk is noticed by a signal, when it is written
            os.posix_fallocate(file.fileno(), 0, tensor.numel() * dtype.itemsize)
        mapped = torch.from_file(str(path), shared=True, size=tensor.numel(), dtype=dtype)
    except (OSError, RuntimeError) as error:
        raise PassError(f"cannot write {path}: {getattr(error, 'strerror', error)}") from error
    finally:
        path.unlink(missing_ok=True)
    return mapped.view(tensor.shape)
