"""The teacher as data: a chain of slots, and an architecture as one specification a slot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nas.ir.blocks import (
    BasicConvolution,
    BlockSpec,
    BottleneckConvolution,
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
)

SlotKind = Annotated[str, Field(pattern=r"^(attention|ffn|stage[1-9][0-9]{0,3})$")]
"""`attention` or `ffn`, or in a convolutional network the stage, such as `stage2`: blocks of one
kind of slot take the same states and cost the same."""

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
    """What every network that is a chain of slots has that is not a weight.

    `layers`: what a cut in depth removes one of. Sizes beyond any network's are those of a torn
    file, and are refused before memory is taken for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    layers: int = Field(gt=0, le=MOST_LAYERS)

    @property
    @abstractmethod
    def pre_norm(self) -> bool:
        """Whether nothing is left of a slot that is skipped: a norm behind a branch would be."""

    @property
    def generates(self) -> bool:
        """Whether the network writes token after token, with a cache."""
        return False

    @property
    def reads_pictures(self) -> bool:
        """Whether it takes pictures, not tokens of a text."""
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
    def state_width(self, kind: SlotKind) -> int:
        """Channels of the residual stream in a slot of `kind`."""

    def pixels(self, kind: SlotKind) -> int:
        """Places of a state that a token has in a slot of `kind`: 1, or the pixels of a picture."""
        return 1

    @abstractmethod
    def inner_width(self, kind: SlotKind) -> int:
        """Channels between the layers of the teacher's block, which narrower ones have fewer of."""

    @abstractmethod
    def narrower(self, kind: SlotKind, width: int) -> BlockSpec:
        """The teacher's kind of block with `width` channels between its layers."""

    @abstractmethod
    def slots(self) -> tuple[Slot, ...]:
        """All slots in the order in which the residual stream meets them."""

    @property
    def slots_per_layer(self) -> int:
        return len(self.slots()) // self.layers

    @abstractmethod
    def resolve(self, slot: Slot, spec: BlockSpec) -> BlockSpec:
        """`spec` with `KeepTeacher` replaced by the concrete block that the teacher has there."""


class TransformerShape(ChainShape, ABC):
    """A chain of attention and feed-forward slots, one of each a layer.

    `pre_norm`: a slot is `state + branch(norm(state))`; else `norm(state + branch(state))`, where a
    skipped slot still norms: what follows was trained on normed states.
    """

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

    @abstractmethod
    def ffn(self, width: int) -> BlockSpec:
        """The feed-forward of this kind of network at a width."""

    def state_width(self, kind: SlotKind) -> int:
        return self.hidden_size

    def inner_width(self, kind: SlotKind) -> int:
        return self.ffn_width if kind == "ffn" else self.query_heads * self.head_dim

    def narrower(self, kind: SlotKind, width: int) -> BlockSpec:
        return self.ffn(width)

    def slots(self) -> tuple[Slot, ...]:
        kinds: tuple[SlotKind, SlotKind] = ("attention", "ffn")
        return tuple(Slot(layer=i, kind=kind) for i in range(self.layers) for kind in kinds)

    def resolve(self, slot: Slot, spec: BlockSpec) -> BlockSpec:
        if not isinstance(spec, KeepTeacher):
            return spec
        if slot.kind == "attention":
            return GroupedQueryAttention(kv_heads=self.kv_heads)
        return self.ffn(self.ffn_width)


def as_transformer(shape: ChainShape) -> TransformerShape:
    """A shape that is known to be of a transformer; raises TypeError for another."""
    if not isinstance(shape, TransformerShape):
        raise TypeError(f"a {shape.family} is no transformer")
    return shape


class DecoderShape(TransformerShape):
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


class EncoderShape(TransformerShape):
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


class Stage(BaseModel):
    """Blocks of a convolutional network that share the size of their state.

    `slots` of them keep it; where `opens`, another stands before them, which brings the state of
    the stage before to `channels` at `side` x `side`. `width`: channels between the convolutions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slots: int = Field(ge=0, le=MOST_LAYERS)
    opens: bool
    channels: int = Field(gt=0, le=2**16)
    width: int = Field(gt=0, le=2**16)
    side: int = Field(gt=0, le=2**14)


class ConvShape(ChainShape):
    """A residual network over square pictures (He et al., arXiv 1512.03385), batch norms folded.

    A slot is a block that keeps the state's size: `relu(state + branch(state))`; `layers` counts
    them. Blocks that open a stage, the stem and the classifier stand outside. A state is
    [pictures, pixels, channels]. `shortcut`: how a block that opens a stage passes the state on,
    every other pixel with `pad`ded channels or a 1x1 `projection`. The stem's convolution is
    `stem_kernel` wide; one of 3 keeps the side, others take every other pixel, and a pooling half
    of those.
    """

    block: Literal["basic", "bottleneck"]
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=64)
    stem_channels: int = Field(gt=0, le=2**16)
    stem_kernel: int = Field(default=3, gt=0, le=31)
    shortcut: Literal["pad", "projection"] = "projection"
    classes: int = Field(gt=0, le=2**24)
    image_side: int = Field(gt=0, le=2**14)
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def pre_norm(self) -> bool:
        return True

    @property
    def reads_pictures(self) -> bool:
        return True

    @property
    def norm_parameters(self) -> int:
        return 0

    @property
    def head_parameters(self) -> int:
        return self.classes * (self.stages[-1].channels + 1)

    @property
    def outside_parameters(self) -> int:
        total = self.stem_channels * (3 * self.stem_kernel**2 + 1) + self.head_parameters
        channels = self.stem_channels
        for stage in self.stages:
            total += self.opening_parameters(channels, stage) if stage.opens else 0
            channels = stage.channels
        return total

    @property
    def stem_side(self) -> int:
        """Side of the pictures that the stem makes."""
        return self.image_side if self.stem_kernel == 3 else (self.image_side + 3) // 4

    @property
    def opening_flops(self) -> float:
        """Floating-point operations of stem and openings over one picture."""
        inputs = self.image_side**2 if self.stem_kernel == 3 else -((-self.image_side // 2) ** 2)
        total = 2.0 * inputs * self.stem_channels * 3 * self.stem_kernel**2
        channels = self.stem_channels
        for stage in self.stages:
            weights = self.opening_parameters(channels, stage) if stage.opens else 0
            total += 2.0 * weights * stage.side**2
            channels = stage.channels
        return total

    def opening_parameters(self, inputs: int, stage: Stage) -> int:
        """Weights of the block that opens `stage` from `inputs` channels."""
        width, outputs = stage.width, stage.channels
        layers = {
            "basic": ((inputs, width, 9), (width, outputs, 9)),
            "bottleneck": ((inputs, width, 1), (width, width, 9), (width, outputs, 1)),
        }[self.block]
        total = sum(taps * a * b + b for a, b, taps in layers)
        return total + ((inputs + 1) * outputs if self.shortcut == "projection" else 0)

    def stage(self, kind: SlotKind) -> Stage:
        """The stage of a kind of slot, such as `stage2`."""
        return self.stages[int(kind.removeprefix("stage")) - 1]

    def state_width(self, kind: SlotKind) -> int:
        return self.stage(kind).channels

    def pixels(self, kind: SlotKind) -> int:
        return self.stage(kind).side ** 2

    def inner_width(self, kind: SlotKind) -> int:
        return self.stage(kind).width

    def narrower(self, kind: SlotKind, width: int) -> BlockSpec:
        if self.block == "bottleneck":
            return BottleneckConvolution(width=width)
        return BasicConvolution(width=width)

    def slots(self) -> tuple[Slot, ...]:
        kinds = [f"stage{s}" for s, one in enumerate(self.stages, 1) for _ in range(one.slots)]
        return tuple(Slot(layer=i, kind=kind) for i, kind in enumerate(kinds))

    def resolve(self, slot: Slot, spec: BlockSpec) -> BlockSpec:
        if not isinstance(spec, KeepTeacher):
            return spec
        return self.narrower(slot.kind, self.inner_width(slot.kind))


AnyShape = DecoderShape | EncoderShape | ConvShape
_SHAPES: TypeAdapter[AnyShape] = TypeAdapter(AnyShape)


def parse_shape(data: object) -> AnyShape:
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
