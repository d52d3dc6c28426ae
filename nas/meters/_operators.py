"""The operators that a block runs, by class: what a roofline with fitted efficiencies adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas.config import TargetConfig
from nas.ir import BlockSpec, ChainShape, Phase, SlotKind, as_text
from nas.meters._base import Part, Request

DECODER_CLASSES = ("matmul", "attention", "elementwise", "embedding", "head")
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_MATMULS = {"gqa": 4, "gated_ffn": 3, "ffn": 2}


@dataclass(frozen=True)
class Operator:
    """One operator at one size: its class, floating-point operations, and bytes moved."""

    kind: str
    flops: float
    bytes_moved: float


Work = Mapping[Operator, float]
"""Operators of a block or network, and how often each runs."""


def decoder_work(config: TargetConfig, shape: ChainShape, request: Request) -> dict[Operator, int]:
    """What `request` runs under the batch, prompt and dtype of `config`."""
    return _Counter(config, shape, request.phase).work(request)


def seen_tokens(shape: ChainShape, tokens: int, past: int) -> int:
    """Keys that each of `tokens` queries sees: a causal one half of the others, on average."""
    return past + (tokens + 1) // 2 if shape.generates else tokens


class _Counter:
    """Operators of the parts of one decoder in one phase."""

    def __init__(self, config: TargetConfig, shape: ChainShape, phase: Phase) -> None:
        self.shape, self.batch = as_text(shape), config.batch
        prompt = config.prompt_tokens
        self.tokens, self.past = (prompt, 0) if phase == "prefill" else (1, prompt)
        self.rows = config.batch * self.tokens
        self.width = _BYTES[config.dtype]

    def work(self, request: Request) -> dict[Operator, int]:
        if request.block is not None:
            return self._block(*request.block)
        return self._part(request.part)

    def _part(self, part: Part) -> dict[Operator, int]:
        hidden, vocabulary = self.shape.hidden_size, self.shape.vocab_size
        if part == "embed":
            return {self._operator("embedding", 0, 2 * self.rows * hidden): 1}
        if not self.shape.head_parameters:  # an encoder's states are pooled
            return {self._operator("elementwise", 0, self.rows * hidden): 1}
        moved = vocabulary * hidden + self.rows * (hidden + vocabulary)
        return {
            self._operator("elementwise", 0, 2 * self.rows * hidden): 1,
            self._operator("head", 2.0 * self.rows * vocabulary * hidden, moved): 1,
        }

    def _block(self, slot_kind: SlotKind, spec: BlockSpec) -> dict[Operator, int]:
        """A block's products as equal parts of what they do together, attention, and the rest.

        Each weight matrix of a block has `hidden` on one side, so that weights / hidden is the sum
        of the other sides: the values a token has inside the block.
        """
        from nas.blocks import KINDS

        kind, hidden = KINDS[spec.kind], self.shape.hidden_size
        weights = kind.parameters(self.shape, slot_kind, spec)
        inner = weights / hidden
        matmuls = _MATMULS.get(spec.kind, 1)
        flops = self.batch * kind.flops(self.shape, slot_kind, spec, self.tokens, 0)
        moved = weights + self.rows * (inner + matmuls * hidden)
        found = {
            self._operator("matmul", flops / matmuls, moved / matmuls): matmuls,
            # Norm and residual read and write the state; what is done to the values inside, too.
            self._operator("elementwise", 0, self.rows * (2 * hidden + inner)): 2,
        }
        cached = kind.cached_values_per_token(self.shape, spec)
        if cached:
            seen = seen_tokens(self.shape, self.tokens, self.past)
            extra = self.batch * kind.flops(self.shape, slot_kind, spec, self.tokens, seen) - flops
            kept = self.batch * (self.past + 2 * self.tokens) * cached
            found[self._operator("attention", extra, kept + self.rows * inner)] = 1
        return found

    def _operator(self, kind: str, flops: float, values: float) -> Operator:
        return Operator(kind, float(flops), float(values * self.width))
