"""Block specifications: what can stand in a slot, as frozen, hashable data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeepTeacher(_Spec):
    """The teacher's own block, unchanged."""

    kind: Literal["teacher"] = "teacher"

    @property
    def label(self) -> str:
        return "teacher"


class GroupedQueryAttention(_Spec):
    """Attention with all query heads and `kv_heads` key-value heads."""

    kind: Literal["gqa"] = "gqa"
    kv_heads: int = Field(gt=0)

    @property
    def label(self) -> str:
        return f"kv{self.kv_heads}"


class GatedFeedForward(_Spec):
    """Gated feed-forward with `width` intermediate channels."""

    kind: Literal["gated_ffn"] = "gated_ffn"
    width: int = Field(gt=0)

    @property
    def label(self) -> str:
        return f"w{self.width}"


class LinearMap(_Spec):
    """One linear layer, hidden to hidden, with a bias."""

    kind: Literal["linear"] = "linear"

    @property
    def label(self) -> str:
        return "linear"


class Skip(_Spec):
    """Nothing: the residual stream passes unchanged."""

    kind: Literal["skip"] = "skip"

    @property
    def label(self) -> str:
        return "skip"


BlockSpec = Annotated[
    KeepTeacher | GroupedQueryAttention | GatedFeedForward | LinearMap | Skip,
    Field(discriminator="kind"),
]

_ADAPTER: TypeAdapter[BlockSpec] = TypeAdapter(BlockSpec)


def parse_spec(data: object) -> BlockSpec:
    """Read a specification back from its JSON form; raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(data)
