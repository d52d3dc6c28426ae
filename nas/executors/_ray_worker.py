"""A worker in a Ray cluster: facts as JSON, arrays as plain bytes with their format and shape."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.executors._failure import described
from nas.executors._function import find_function

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Packed = dict[str, tuple[str, tuple[int, ...], "np.ndarray[Any, np.dtype[np.uint8]]"]]


def packed(tensors: Mapping[str, Tensor]) -> Packed:
    """Number format, shape and bytes of each tensor, from the CPU."""
    import torch

    found: Packed = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        kind = str(tensor.dtype).removeprefix("torch.")
        found[name] = (kind, tuple(tensor.shape), flat.view(torch.uint8).numpy())
    return found


def unpacked(arrays: Packed, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors again. Copies: the object store may not be written to."""
    import torch

    found: dict[str, Tensor] = {}
    for name, (kind, shape, flat) in arrays.items():
        whole = torch.from_numpy(flat.copy()).view(getattr(torch, kind)).reshape(shape)
        found[name] = whole.to(device)
    return found


class RayWorker:
    """The actor. It keeps the last resident, which the jobs of a pass share."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._kept: tuple[str, Any] | None = None

    def ready(self) -> None:
        """Answers once the worker has imported what it needs."""

    def work(self, ask: str, arrays: Packed, resident: Packed | None) -> tuple[str, Packed]:
        """What came of a job, as the process pool's workers answer, and its arrays."""
        job = json.loads(ask)
        try:
            kept = self._resident(job["resident"], resident)
            started = time.perf_counter()
            given = unpacked(arrays, job["device"])
            tensors, facts = find_function(job["function"])(given, job["facts"], kept)
            seconds = time.perf_counter() - started
            return json.dumps({"facts": facts, "seconds": seconds}), packed(tensors)
        except Exception as error:
            traceback.print_exc()  # into Ray's log of the worker
            return json.dumps(described(error)), {}

    def _resident(self, asked: dict[str, Any] | None, arrays: Packed | None) -> Any:
        if asked is None or arrays is None:
            self._kept = None
            return None
        if self._kept is None or self._kept[0] != asked["name"]:
            self._kept = None  # before the next one takes its memory
            made = find_function(asked["function"])(unpacked(arrays), asked["facts"])
            self._kept = (asked["name"], made)
        return self._kept[1]
