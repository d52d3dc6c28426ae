"""Depth: the longest chain of weighted layers from input to output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.proxies._base import Proxy, Trial

_AT = torch.ops.aten
_WEIGHTED = {_AT.convolution, _AT.mm, _AT.addmm, _AT.bmm, _AT.baddbmm, _AT.linear}
_PRODUCTS = {_AT.mul, _AT.mul_}


class Depth(Proxy):
    """Convolutions and linear maps on the longest path from input to logits.

    Counted while one input passes, so shortcuts, branches and functional calls are all seen. A
    branch that is multiplied by the number 0 carries nothing and counts as none.
    """

    name = "depth"
    cost = "count"
    source = "baseline"

    def score(self, trial: Trial) -> float:
        network = trial.network().eval()
        inputs = trial.batch.inputs[:1]
        with torch.no_grad(), _Chains(inputs) as chains:
            logits = network(inputs)
        return float(chains.depth(logits))


class _Chains(TorchDispatchMode):
    """Depth of every tensor that depends on the input, by the memory that holds it."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # The storages are kept too: a freed one could be given out anew under the same name.
        self._kept = [inputs.untyped_storage()]
        self._depths = {inputs.untyped_storage()._cdata: 0}

    def depth(self, tensor: Tensor) -> int:
        return self._depths.get(tensor.untyped_storage()._cdata, 0)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs or {}))
        given = [x.untyped_storage()._cdata for x in leaves if isinstance(x, Tensor)]
        depths = [self._depths[name] for name in given if name in self._depths]
        if depths and not _erases(func, leaves):
            weighted = func.overloadpacket in _WEIGHTED and len(depths) < len(given)
            self._remember(made, max(depths) + weighted)
        return made

    def _remember(self, made: Any, depth: int) -> None:
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._kept.append(storage)
                self._depths[storage._cdata] = max(depth, self._depths.get(storage._cdata, 0))


def _erases(func: Callable[..., Any], leaves: Sequence[Any]) -> bool:
    packet = getattr(func, "overloadpacket", None)
    return packet in _PRODUCTS and any(x == 0 for x in leaves if isinstance(x, int | float))
