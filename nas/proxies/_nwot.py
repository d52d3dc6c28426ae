"""NWOT: how differently an untrained network's rectifiers fire for different inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nas.proxies._base import Proxy, Trial

_RECTIFIERS = {torch.ops.aten.relu, torch.ops.aten.relu_}


class Nwot(Proxy):
    """log |K|, K[i, j] = number of rectifiers that are both on or both off for samples i and j.

    nan where K is singular: two samples switch all rectifiers alike.
    """

    name = "nwot"
    needs = frozenset({"data"})
    over = "pictures"
    cost = "forward"
    source = "Mellor et al., Neural Architecture Search without Training, ICML 2021"

    def score(self, trial: Trial) -> float:
        inputs = trial.batch.inputs
        kernel = torch.zeros(len(inputs), len(inputs), dtype=torch.float64)

        def add(codes: Tensor) -> None:
            # With bits as signs, a product counts equal bits less unequal ones.
            signs = codes.flatten(1).float().mul_(2).sub_(1)
            kernel.add_((signs @ signs.T + signs.shape[1]).double() / 2)

        network = trial.image_network()
        with torch.no_grad(), _Rectifiers(add):
            network(inputs)
        sign, found = torch.linalg.slogdet(kernel)
        return float(found) if sign > 0 and math.isfinite(found) else math.nan


class _Rectifiers(TorchDispatchMode):
    """Calls `see` with what is on, [N, ...], for every rectifier, module or function."""

    def __init__(self, see: Callable[[Tensor], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._see = see

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket in _RECTIFIERS:
            self._see(made > 0)
        return made
