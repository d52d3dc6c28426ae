"""A SuperLM: one encoder whose slices are the students of a sub-space."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas.chain import EncoderChain
from nas.ir import EncoderShape
from nas.networks import BertSpec
from nas.supernet._objective import Seen, look
from nas.supernet._slicing import sliced, sliced_state, student_shape


class SuperNetwork:
    """`chain` is an encoder of the size `bound`; students are slices of its weights.

    It starts as the first layers, heads and channels of the teacher, and is trained in place. With
    a single student, as large as the bound, it is that student alone.
    """

    def __init__(self, teacher: EncoderChain, bound: BertSpec) -> None:
        self.bound = bound
        self._teacher_shape = teacher.shape
        self.chain = sliced_chain(teacher, student_shape(teacher.shape, bound))

    def shape(self, spec: BertSpec) -> EncoderShape:
        """The shape of a student; raises ConfigError where it is none of the teacher's slices."""
        return student_shape(self._teacher_shape, spec)

    def rows(self, ids: Tensor) -> Tensor:
        """Embeddings [batch * tokens, hidden] of the tokens at hand, for all subnets of a step."""
        return self.chain.embed.weight[ids.flatten()]

    def look(self, spec: BertSpec, ids: Tensor, rows: Tensor, embeds: bool) -> Seen:
        """What a subnet makes of ids [batch, tokens]; differentiable in the shared weights and in
        `rows`, as `rows(ids)` gives them."""
        shape, large = self.shape(spec), self.chain.shape
        module = _look_of(shape)
        shared: dict[str, Tensor] = dict(self.chain.named_parameters())
        # The rows stand in for the table of embeddings, in the order of the tokens: a gradient for
        # the whole vocabulary is then made once a step, not once for each subnet.
        shared["embed.weight"] = rows
        weights = {
            f"chain.{name}": sliced(name, shared[name], large, shape) for name in module.names
        }
        places = torch.arange(ids.numel(), device=ids.device).reshape(ids.shape)
        seen = functional_call(module, weights, (places, embeds))
        assert isinstance(seen, Seen)
        return seen

    def extract(self, spec: BertSpec) -> EncoderChain:
        """A student as a model of its own, with copies of its weights; frozen, in eval mode."""
        return sliced_chain(self.chain, self.shape(spec))


def sliced_chain(chain: EncoderChain, shape: EncoderShape) -> EncoderChain:
    """A frozen encoder of `shape` in eval mode with copies of the slices of another's weights."""
    with torch.device("meta"):
        made = EncoderChain(shape)
    names = [name for name, _ in made.named_parameters()]
    with torch.no_grad():
        state = sliced_state(dict(chain.named_parameters()), names, chain.shape, shape)
        copies = {
            name: part.clone(memory_format=torch.contiguous_format) for name, part in state.items()
        }
    made.load_state_dict(copies, assign=True)
    return made.eval().requires_grad_(False)


@lru_cache(maxsize=64)
def _look_of(shape: EncoderShape) -> _Look:
    return _Look(shape)


class _Look(nn.Module):
    """`look` as a module without weights of its own: they are given with each call."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        with torch.device("meta"):
            self.chain = EncoderChain(shape)
        self.names = [name for name, _ in self.chain.named_parameters()]

    def forward(self, ids: Tensor, embeds: bool) -> Seen:
        return look(self.chain, ids, embeds)
