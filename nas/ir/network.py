"""The teacher as data: a chain of slots, and an architecture as one specification a slot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.ir.blocks import BlockSpec, GatedFeedForward, GroupedQueryAttention, KeepTeacher

SlotKind = Literal["attention", "ffn"]

MOST_LAYERS = 10_000


class Slot(BaseModel):
    """One replaceable residual branch: `state + branch(norm(state))`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = Field(ge=0)
    kind: SlotKind

    @property
    def id(self) -> str:
        """Such as `layers.7.ffn`."""
        return f"layers.{self.layer}.{self.kind}"


class DecoderShape(BaseModel):
    """Everything about a decoder that is not a weight.

    `rope` is the `rope_parameters` dictionary of transformers' configuration (`rope_type`,
    `rope_theta`, ...), kept as it is so that the angles are computed by transformers itself. Sizes
    beyond any network's are those of a torn file, and are refused before memory is taken for them.
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
    tied_embeddings: bool
    qkv_bias: bool = False
    output_bias: bool = False
    ffn_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = Field(default=1e-6, ge=0, allow_inf_nan=False)
    activation: str = "silu"
    sliding_window: int | None = Field(default=None, gt=0)
    rope: dict[str, Any] = Field(default_factory=dict)
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

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
        return GatedFeedForward(width=self.ffn_width)


class Architecture(BaseModel):
    """One specification a slot. Slots that are not named keep the teacher's block."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: dict[str, BlockSpec] = Field(default_factory=dict)

    def spec(self, slot: Slot) -> BlockSpec:
        return self.choices.get(slot.id, KeepTeacher())

    def items(self, shape: DecoderShape) -> Iterator[tuple[Slot, BlockSpec]]:
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
