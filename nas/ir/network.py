"""The teacher as data: a chain of slots, and an architecture as one specification a slot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

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
    def embeds(self) -> bool:
        """Whether what the network is for is an embedding, not a distribution."""
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
        """Places of a state that a token has in a slot of `kind`: 1, or of a picture, which counts
        as one token, its pixels or patches."""
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
    qkv_bias: bool = False
    output_bias: bool = False
    ffn_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = Field(default=1e-6, ge=0, allow_inf_nan=False)
    activation: str = "silu"

    @property
    @abstractmethod
    def centred(self) -> bool:
        """Whether norms take the mean off and add a bias (LayerNorm); else they are RMS norms."""

    @property
    def norm_parameters(self) -> int:
        return (2 if self.centred else 1) * self.hidden_size

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


class TextShape(TransformerShape, ABC):
    """A transformer that reads tokens of a vocabulary, at most `max_positions` at a time."""

    vocab_size: int = Field(gt=0, le=2**24)
    max_positions: int = Field(gt=0, le=2**31)


def as_text(shape: ChainShape) -> TextShape:
    """A shape that is known to be of a network over text; raises TypeError for another."""
    if not isinstance(shape, TextShape):
        raise TypeError(f"a {shape.family} reads no text")
    return shape


class DecoderShape(TextShape):
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
    def centred(self) -> bool:
        return False

    @property
    def outside_parameters(self) -> int:
        copies = 1 if self.tied_embeddings else 2
        return copies * self.head_parameters + self.hidden_size

    @property
    def head_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    def ffn(self, width: int) -> BlockSpec:
        return GatedFeedForward(width=width)


class EncoderShape(TextShape):
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
    def centred(self) -> bool:
        return True

    @property
    def language(self) -> bool:
        return self.masked_head

    @property
    def embeds(self) -> bool:
        return not self.masked_head

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


class VisionShape(TransformerShape):
    """A transformer over square pictures (ViT; Dosovitskiy et al., arXiv 2010.11929): a token for
    each square of `patch_side` pixels, learned positions, LayerNorm before each branch.

    `prefix_tokens` learned ones stand before the patches: a class token, then the distillation
    token of DeiT (arXiv 2012.12877). The last states are read at the class token (`cls`), at `both`
    of these, side by side, or in the `mean` over the patches; the last norm stands before that, or
    behind it where the network `pools_first`. `classes` 0: there is no classifier, and what is read
    is the embedding of the picture. A state is [pictures, places, hidden].
    """

    patch_side: int = Field(gt=0, le=2**14)
    prefix_tokens: int = Field(default=1, ge=0, le=2)
    pooling: Literal["cls", "both", "mean"] = "cls"
    pools_first: bool = False
    classes: int = Field(ge=0, le=2**24)
    image_side: int = Field(gt=0, le=2**14)
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _has_what_it_reads(self) -> Self:
        if self.prefix_tokens < {"mean": 0, "cls": 1, "both": 2}[self.pooling]:
            raise ValueError(
                f"{self.prefix_tokens} prefix tokens do not let it read {self.pooling}"
            )
        if self.patch_side > self.image_side:
            raise ValueError(f"patches of {self.patch_side} in pictures of {self.image_side}")
        return self

    @property
    def pre_norm(self) -> bool:
        return True

    @property
    def centred(self) -> bool:
        return True

    @property
    def reads_pictures(self) -> bool:
        return True

    @property
    def embeds(self) -> bool:
        return self.classes == 0

    @property
    def patches(self) -> int:
        """Patches of a picture; what is left of it at the edges is not read."""
        return (self.image_side // self.patch_side) ** 2

    @property
    def places(self) -> int:
        """Tokens of a picture."""
        return self.prefix_tokens + self.patches

    @property
    def last_state(self) -> int:
        """Numbers in the last state of a picture."""
        return self.places * self.hidden_size

    @property
    def read_width(self) -> int:
        """Numbers that the classifier reads."""
        return (2 if self.pooling == "both" else 1) * self.hidden_size

    @property
    def head_parameters(self) -> int:
        return self.classes * (self.read_width + 1)

    @property
    def outside_parameters(self) -> int:
        patch = 3 * self.patch_side**2 + 1
        rows = patch + self.prefix_tokens + self.places
        return rows * self.hidden_size + self.norm_parameters + self.head_parameters

    @property
    def opening_flops(self) -> float:
        """Floating-point operations of the embedding of one picture."""
        return 2.0 * self.patches * self.hidden_size * 3 * self.patch_side**2

    def pixels(self, kind: SlotKind) -> int:
        return self.places

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
    def last_state(self) -> int:
        """Numbers in the last state of a picture."""
        return self.stages[-1].channels * self.stages[-1].side ** 2

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


PictureShape = ConvShape | VisionShape
"""Networks over pictures: both have `image_side`, `image_mean`, `image_std`, `classes`,
`last_state` and `opening_flops`."""

AnyShape = DecoderShape | EncoderShape | ConvShape | VisionShape
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
