"""The teacher as data: a chain of slots, and an architecture as one specification a slot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nas.ir.blocks import (
    BlockSpec,
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
)

SlotKind = Literal["attention", "ffn"]

MOST_LAYERS = 10_000


class Slot(BaseModel):
    """One replaceable residual branch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = Field(ge=0)
    kind: SlotKind

    @property
    def id(self) -> str:
        """Such as `layers.7.ffn`."""
        return f"layers.{self.layer}.{self.kind}"


class ChainShape(BaseModel, ABC):
    """What every chain of attention and feed-forward slots has that is not a weight.

    `pre_norm`: a slot is `state + branch(norm(state))`; else `norm(state + branch(state))`, where a
    skipped slot still norms: what follows was trained on normed states. Sizes beyond any network's
    are those of a torn file, and are refused before memory is taken for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    layers: int = Field(gt=0, le=MOST_LAYERS)
    hidden_size: int = Field(gt=0, le=2**20)
    query_heads: int = Field(gt=0, le=2**16)
    kv_heads: int = Field(gt=0, le=2**16)
    head_dim: int = Field(gt=0, le=2**16)
    ffn_width: int = Field(gt=0, le=2**24)
    vocab_size: int = Field(gt=0, le=2**24)
    max_positions: int = Field(gt=0, le=2**31)
    qkv_bias: bool = False
    output_bias: bool = False
    ffn_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = Field(default=1e-6, ge=0, allow_inf_nan=False)
    activation: str = "silu"

    @property
    @abstractmethod
    def pre_norm(self) -> bool:
        """Whether a slot norms what goes into its branch."""

    @property
    def generates(self) -> bool:
        """Whether the network writes token after token, with a cache."""
        return False

    @property
    def language(self) -> bool:
        """Whether the network is for telling tokens: next ones, or masked ones."""
        return self.generates

    @property
    @abstractmethod
    def norm_parameters(self) -> int:
        """Weights of the norm of a slot."""

    @property
    @abstractmethod
    def outside_parameters(self) -> int:
        """Weights of what stands outside the slots; tied ones count once."""

    @property
    @abstractmethod
    def head_parameters(self) -> int:
        """Weights that every token passes after the last slot."""

    @abstractmethod
    def ffn(self, width: int) -> BlockSpec:
        """The feed-forward of this kind of network at a width."""

    def slots(self) -> tuple[Slot, ...]:
        """All slots in the order in which the residual stream meets them."""
        kinds: tuple[SlotKind, SlotKind] = ("attention", "ffn")
        return tuple(Slot(layer=i, kind=kind) for i in range(self.layers) for kind in kinds)

    def resolve(self, slot: Slot, spec: BlockSpec) -> BlockSpec:
        """`spec` with `KeepTeacher` replaced by the concrete block that the teacher has there."""
        if not isinstance(spec, KeepTeacher):
            return spec
        if slot.kind == "attention":
            return GroupedQueryAttention(kv_heads=self.kv_heads)
        return self.ffn(self.ffn_width)


class DecoderShape(ChainShape):
    """A decoder-only language model: token after token, rotary positions, gated feed-forward.

    `rope` is the `rope_parameters` dictionary of transformers' configuration (`rope_type`,
    `rope_theta`, ...), kept as it is so that the angles are computed by transformers itself.
    """

    tied_embeddings: bool
    sliding_window: int | None = Field(default=None, gt=0)
    rope: dict[str, Any] = Field(default_factory=dict)
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    @property
    def pre_norm(self) -> bool:
        return True

    @property
    def generates(self) -> bool:
        return True

    @property
    def norm_parameters(self) -> int:
        return self.hidden_size

    @property
    def outside_parameters(self) -> int:
        copies = 1 if self.tied_embeddings else 2
        return copies * self.head_parameters + self.hidden_size

    @property
    def head_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    def ffn(self, width: int) -> BlockSpec:
        return GatedFeedForward(width=width)


class EncoderShape(ChainShape):
    """A bidirectional encoder in the manner of BERT: every token sees all others, positions are
    learned, feed-forwards have no gate, and LayerNorm follows each branch.

    Its use is an embedding of the whole text: the `pooling` of the last states (`mean` over the
    tokens that are not padding, or the first, `cls`), of unit length where `normalised`.
    `type_vocab_size` 0: the network knows no token types. With a `masked_head` its use is to tell
    masked tokens: the last states pass a dense layer with activation and norm, and the embeddings.
    """

    type_vocab_size: int = Field(default=2, ge=0, le=2**16)
    pooling: Literal["mean", "cls"] = "mean"
    normalised: bool = True
    masked_head: bool = False

    @property
    def pre_norm(self) -> bool:
        return False

    @property
    def language(self) -> bool:
        return self.masked_head

    @property
    def norm_parameters(self) -> int:
        return 2 * self.hidden_size

    @property
    def outside_parameters(self) -> int:
        rows = self.vocab_size + self.max_positions + self.type_vocab_size
        head = 0
        if self.masked_head:  # its output layer is the embeddings' weight, with a bias
            head = (self.hidden_size + 1) * self.hidden_size + self.norm_parameters
            head += self.vocab_size
        return rows * self.hidden_size + self.norm_parameters + head

    @property
    def head_parameters(self) -> int:
        if not self.masked_head:
            return 0
        return (self.vocab_size + self.hidden_size) * self.hidden_size

    def ffn(self, width: int) -> BlockSpec:
        return FeedForward(width=width)


_SHAPES: TypeAdapter[DecoderShape | EncoderShape] = TypeAdapter(DecoderShape | EncoderShape)


def parse_shape(data: object) -> DecoderShape | EncoderShape:
    """Read a shape back from its JSON form; raises pydantic's ValidationError."""
    return _SHAPES.validate_python(data)


class Architecture(BaseModel):
    """One specification a slot. Slots that are not named keep the teacher's block."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: dict[str, BlockSpec] = Field(default_factory=dict)

    def spec(self, slot: Slot) -> BlockSpec:
        return self.choices.get(slot.id, KeepTeacher())

    def items(self, shape: ChainShape) -> Iterator[tuple[Slot, BlockSpec]]:
        for slot in shape.slots():
            yield slot, self.spec(slot)

    def replaced(self, slot: Slot, spec: BlockSpec) -> Architecture:
        """A copy with one more choice."""
        return Architecture(choices={**self.choices, slot.id: spec})


class Candidate(BaseModel):
    """A block that could stand in a slot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slot: Slot
    spec: BlockSpec

    @property
    def id(self) -> str:
        """Such as `layers.7.ffn/w768`."""
        return f"{self.slot.id}/{self.spec.label}"
