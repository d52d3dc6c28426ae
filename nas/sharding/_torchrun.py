"""Processes that torchrun started; weights, gradients and moments sharded by FSDP2.

Zhao et al., PyTorch FSDP (arXiv 2304.11277). Gloo on CPUs, NCCL on GPUs.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from nas._numerics import compute_dtype
from nas.errors import ConfigError
from nas.sharding._base import Ranks, Task

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_PATIENCE = timedelta(days=30)
"""The passes before distillation may take as long; torchrun ends all processes where one fails."""
_TEXT_BYTES = 4096


class TorchrunRanks(Ranks):
    """The ranks meet at the store of torchrun's agent; they are connected when a task comes."""

    def __init__(
        self, *, rank: int, size: int, local: int, address: str, port: int, attempt: str
    ) -> None:
        self.rank, self.size, self._local = rank, size, local
        self._address, self._port, self._attempt = address, port, attempt
        self._tasks = 0
        self._device = "cpu"

    def announce(self, task: Task) -> None:
        self._store.set(f"task-{self._tasks}", json.dumps(task))
        self._tasks += 1
        self._connect(task["device"])

    def next_task(self) -> Task | None:
        name = f"task-{self._tasks}"
        self._store.wait([name], _PATIENCE)
        task: Task | None = json.loads(self._store.get(name))
        self._tasks += 1
        if task is not None:
            self._connect(task["device"])
        return task

    def close(self) -> None:
        if self.first:
            self._store.set(f"task-{self._tasks}", json.dumps(None))
        if dist.is_initialized():
            dist.destroy_process_group()

    @cached_property
    def _store(self) -> Store:
        """Names of an earlier attempt, which torchrun may have restarted, are not seen."""
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = TCPStore(self._address, self._port, is_master=self.first and not hosted)
        return PrefixStore(f"nas-{self._attempt}", store)

    def _connect(self, device: str) -> None:
        if torch.device(device).index is not None:
            raise ConfigError(
                f"teacher.device: {device} would be every process's; write "
                f"{torch.device(device).type}, and each takes the one that torchrun gives it"
            )
        self._device = torch.device(device).type
        if dist.is_initialized():
            return
        if self._device == "cuda":
            torch.cuda.set_device(self._local)
        backend = "nccl" if self._device == "cuda" else "gloo"
        dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.size)

    @cached_property
    def _mesh(self) -> DeviceMesh:
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self._device, (self.size,))

    def shard(
        self, network: nn.Module, groups: Iterable[Sequence[nn.Module]], kept: Iterable[Tensor]
    ) -> None:
        """Groups travel in the number format that autocast would give them, so that backward
        gathers them anew and no copy outlives its layer; what is outside groups (norms) stays in
        its own, as autocast leaves it. Gradients are added in float32."""
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        # Linear layers return views, and nothing here works on their outputs in place.
        warnings.filterwarnings("ignore", r"FSDP2-wrapped module .* returned a view tensor")
        ignored = {p for p in kept if isinstance(p, nn.Parameter)}
        low = MixedPrecisionPolicy(
            param_dtype=compute_dtype(self._device),
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,
        )
        for modules in groups:
            if modules:
                fully_shard(
                    list(modules),
                    mesh=self._mesh,
                    mp_policy=low,
                    reshard_after_forward=True,
                    ignored_params=ignored,
                )
        fully_shard(
            network,
            mesh=self._mesh,
            mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False),
            ignored_params=ignored,
        )

    def local(self, tensor: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor

        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def whole(self, tensor: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor

        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def total(self, values: Sequence[float]) -> list[float]:
        summed = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(summed)
        found: list[float] = summed.tolist()
        return found

    def gather(self, text: str) -> list[str]:
        said = torch.zeros(self.size, _TEXT_BYTES, dtype=torch.uint8, device=self._device)
        data = text.encode()[:_TEXT_BYTES]
        said[self.rank, : len(data)] = torch.tensor(list(data), dtype=torch.uint8)
        dist.all_reduce(said)  # objects would travel as pickles
        return [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in said.cpu()]
