"""Block specifications: what can stand in a slot, as frozen, hashable data."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

Precision = Literal["float", "float16", "int8", "int8_dynamic"]
"""What a block's matrices are computed in: the target's own floating-point format; half precision
in a float32 network; weights of eight bits; or these and activations of eight bits, whose range is
taken as they come."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Weighted(_Spec):
    """A block with weight matrices. In its JSON form `float` is left out, so that what was written
    before there was a choice is read, and hashed, as it was."""

    precision: Precision = Field(default="float", exclude_if=lambda value: value == "float")

    @property
    def label(self) -> str:
        """Such as `w768` or `w768-int8`."""
        if self.precision == "float":
            return self._structure
        return f"{self._structure}-{self.precision}"

    @property
    def _structure(self) -> str:
        raise NotImplementedError

    def at(self, precision: Precision) -> Self:
        """The same block in another precision."""
        return self.model_copy(update={"precision": precision})


class KeepTeacher(_Spec):
    """The teacher's own block, unchanged."""

    kind: Literal["teacher"] = "teacher"

    @property
    def label(self) -> str:
        return "teacher"


class GroupedQueryAttention(_Weighted):
    """Attention with `kv_heads` key-value heads; `query_heads` None: as many as the teacher has."""

    kind: Literal["gqa"] = "gqa"
    kv_heads: int = Field(gt=0)
    query_heads: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.query_heads is not None and self.query_heads % self.kv_heads:
            raise ValueError(
                f"{self.query_heads} query heads do not share {self.kv_heads} KV heads evenly"
            )
        return self

    @property
    def _structure(self) -> str:
        queries = "" if self.query_heads is None else f"h{self.query_heads}"
        return f"{queries}kv{self.kv_heads}"


class GatedFeedForward(_Weighted):
    """Gated feed-forward with `width` intermediate channels."""

    kind: Literal["gated_ffn"] = "gated_ffn"
    width: int = Field(gt=0)

    @property
    def _structure(self) -> str:
        return f"w{self.width}"


class FeedForward(_Weighted):
    """Feed-forward of two layers with `width` channels between them."""

    kind: Literal["ffn"] = "ffn"
    width: int = Field(gt=0)

    @property
    def _structure(self) -> str:
        return f"w{self.width}"


class BasicConvolution(_Spec):
    """Two convolutions of 3x3 with `width` channels between them."""

    kind: Literal["basic_conv"] = "basic_conv"
    width: int = Field(gt=0)

    @property
    def label(self) -> str:
        return f"w{self.width}"


class BottleneckConvolution(_Spec):
    """Convolutions of 1x1, 3x3 and 1x1 with `width` channels between them."""

    kind: Literal["bottleneck_conv"] = "bottleneck_conv"
    width: int = Field(gt=0)

    @property
    def label(self) -> str:
        return f"b{self.width}"


class SeparableConvolution(_Spec):
    """`multiplier` 3x3 filters on each channel alone, then 1x1 back to the channels."""

    kind: Literal["separable_conv"] = "separable_conv"
    multiplier: int = Field(default=1, gt=0)

    @property
    def label(self) -> str:
        return f"s{self.multiplier}"


class LowRankConvolution(_Spec):
    """A 3x3 convolution to `rank` channels and 1x1 back, with nothing between them: the best
    linear block of that rank. `rank` None: one 3x3 convolution."""

    kind: Literal["low_rank_conv"] = "low_rank_conv"
    rank: int | None = Field(default=None, gt=0)

    @property
    def label(self) -> str:
        return "conv" if self.rank is None else f"r{self.rank}"


class LinearMap(_Weighted):
    """One linear layer, hidden to hidden, with a bias; on pictures a convolution of 1x1."""

    kind: Literal["linear"] = "linear"

    @property
    def _structure(self) -> str:
        return "linear"


class Skip(_Spec):
    """Nothing: the residual stream passes unchanged."""

    kind: Literal["skip"] = "skip"

    @property
    def label(self) -> str:
        return "skip"


BlockSpec = Annotated[
    KeepTeacher
    | GroupedQueryAttention
    | GatedFeedForward
    | FeedForward
    | BasicConvolution
    | BottleneckConvolution
    | SeparableConvolution
    | LowRankConvolution
    | LinearMap
    | Skip,
    Field(discriminator="kind"),
]

_ADAPTER: TypeAdapter[BlockSpec] = TypeAdapter(BlockSpec)


def parse_spec(data: object) -> BlockSpec:
    """Read a specification back from its JSON form; raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(data)


def precision_of(spec: BlockSpec) -> Precision:
    """The precision of a block; `float` where there is nothing to choose."""
    return spec.precision if isinstance(spec, _Weighted) else "float"


def in_precision(spec: BlockSpec, precision: Precision) -> BlockSpec:
    """The same structure in a precision; what has no matrices stays as it is."""
    return spec.at(precision) if isinstance(spec, _Weighted) else spec


def in_float(spec: BlockSpec) -> BlockSpec:
    """The same structure in the target's own format."""
    return in_precision(spec, "float")
