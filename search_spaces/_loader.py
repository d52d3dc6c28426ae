"""Read a space of blocks and list its candidates for a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nas.errors import ConfigError
from nas.ir import (
    BlockSpec,
    BottleneckConvolution,
    Candidate,
    ChainShape,
    ConvShape,
    GroupedQueryAttention,
    KeepTeacher,
    LinearMap,
    LowRankConvolution,
    Precision,
    SeparableConvolution,
    Skip,
    Slot,
    SlotKind,
    TransformerShape,
    as_transformer,
    in_precision,
)
from search_spaces._files import names, read

Percent = Annotated[float, Field(gt=0, le=100)]


def _listed(value: object) -> object:
    """One name stands for a list of it."""
    return [value] if isinstance(value, str) else value


_FLOAT: tuple[Precision, ...] = ("float",)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Slots(_Section):
    """`precision`: what matrices may be computed in. Each block is a candidate in each of them, the
    teacher's own too; in `float` that is always a choice."""

    precision: Annotated[tuple[Precision, ...], BeforeValidator(_listed)] = Field(
        default=_FLOAT, min_length=1, exclude_if=lambda value: value == _FLOAT
    )
    linear: bool = True
    skip: bool = True

    def in_precisions(self, specs: Iterable[BlockSpec], own: BlockSpec) -> Iterator[BlockSpec]:
        """`specs` in each precision, and `own`, the teacher's block, in those that are not its."""
        structures = list(specs)
        for precision in dict.fromkeys(self.precision):
            every = structures if precision == "float" else [own, *structures]
            yield from (in_precision(spec, precision) for spec in every)


class AttentionSpace(_Slots):
    """`kv_heads`: all query heads on fewer, pooled KV heads. `query_heads_percent`: fewer query
    heads on each KV head. `groups_percent`: fewer KV heads, each with all of its query heads."""

    kv_heads: Literal["divisors"] | tuple[int, ...] = "divisors"
    query_heads_percent: tuple[Percent, ...] = ()
    groups_percent: tuple[Percent, ...] = ()


class FeedForwardSpace(_Slots):
    width_percent: tuple[Percent, ...] = ()


class ConvolutionSpace(_Section):
    """Blocks of a residual network over pictures. `width_percent`: fewer channels between the
    teacher's convolutions. `bottleneck_percent`: 1x1, 3x3 and 1x1 with a share of the state's
    channels between them. `rank_percent`: one linear convolution through a share of the channels;
    `conv`: a whole one. `separable`: filters on each channel alone, so many a channel. Channels are
    rounded to `multiple`."""

    width_percent: tuple[Percent, ...] = ()
    bottleneck_percent: tuple[Percent, ...] = ()
    rank_percent: tuple[Percent, ...] = ()
    separable: tuple[Annotated[int, Field(gt=0)], ...] = ()
    conv: bool = True
    linear: bool = True
    skip: bool = True
    multiple: int = Field(default=4, gt=0)

    def narrower(self, shape: ConvShape, kind: SlotKind, percent: float) -> BlockSpec:
        """The teacher's kind of block with a share of its channels."""
        inner = shape.inner_width(kind)
        kept = self._rounded(inner, (percent,))
        return shape.narrower(kind, kept[0] if kept else inner)

    def specs(self, shape: ConvShape, kind: SlotKind) -> tuple[BlockSpec, ...]:
        """Each once; the teacher's own block is no candidate."""
        channels, inner = shape.state_width(kind), shape.inner_width(kind)
        own = shape.narrower(kind, inner)
        specs: list[BlockSpec] = [
            *(shape.narrower(kind, w) for w in self._rounded(inner, self.width_percent)),
            *(
                BottleneckConvolution(width=w)
                for w in self._rounded(channels, self.bottleneck_percent)
                if w < inner
            ),
            *(LowRankConvolution(rank=r) for r in self._rounded(channels, self.rank_percent)),
            *(SeparableConvolution(multiplier=m) for m in self.separable),
            *([LowRankConvolution()] if self.conv else []),
            *([LinearMap()] if self.linear else []),
            *([Skip()] if self.skip else []),
        ]
        return tuple(spec for spec in dict.fromkeys(specs) if spec != own)

    def _rounded(self, total: int, percents: tuple[float, ...]) -> list[int]:
        each = self.multiple
        widths = [max(1, round(total * percent / 100 / each)) * each for percent in percents]
        return [w for w in dict.fromkeys(widths) if w < total]


class SearchSpace(_Section):
    """What may replace the teacher's blocks. The teacher's own block is always a choice."""

    attention: AttentionSpace = AttentionSpace()
    ffn: FeedForwardSpace = FeedForwardSpace()
    residual: ConvolutionSpace = ConvolutionSpace()
    layers: tuple[int, ...] | None = Field(default=None, description="only these layers")

    @property
    def precisions(self) -> frozenset[Precision]:
        """What blocks may be in beside the target's own format."""
        return frozenset({*self.attention.precision, *self.ffn.precision} - {"float"})

    def specs(
        self, shape: ChainShape, kind: SlotKind, width_multiple: int
    ) -> tuple[BlockSpec, ...]:
        """Specifications for a slot of `kind`, without the teacher's own block."""
        if isinstance(shape, ConvShape):
            return self.residual.specs(shape, kind)
        shape = as_transformer(shape)
        if kind == "attention":
            section: AttentionSpace | FeedForwardSpace = self.attention
            specs: list[BlockSpec] = [
                *(GroupedQueryAttention(kv_heads=heads) for heads in self._kv_heads(shape)),
                *self._fewer_queries(shape),
            ]
        else:
            section = self.ffn
            specs = [shape.ffn(w) for w in self._widths(shape, width_multiple)]
        if section.linear:
            specs.append(LinearMap())
        own = shape.resolve(Slot(layer=0, kind=kind), KeepTeacher())
        found = tuple(section.in_precisions(specs, own))
        return (*found, Skip()) if section.skip else found

    def candidates(self, shape: ChainShape, width_multiple: int = 1) -> tuple[Candidate, ...]:
        """Every candidate of every slot, in the order of the slots."""
        wanted = set(range(shape.layers) if self.layers is None else self.layers)
        return tuple(
            Candidate(slot=slot, spec=spec)
            for slot in shape.slots()
            if slot.layer in wanted
            for spec in self.specs(shape, slot.kind, width_multiple)
        )

    def _kv_heads(self, shape: TransformerShape) -> list[int]:
        if self.attention.kv_heads == "divisors":
            return [n for n in range(shape.kv_heads - 1, 0, -1) if shape.kv_heads % n == 0]
        for heads in self.attention.kv_heads:
            if not 0 < heads <= shape.kv_heads or shape.kv_heads % heads:
                raise ConfigError(
                    f"attention.kv_heads: {heads} does not divide the teacher's {shape.kv_heads}"
                )
        return [n for n in self.attention.kv_heads if n < shape.kv_heads]

    def _fewer_queries(self, shape: TransformerShape) -> list[GroupedQueryAttention]:
        group = shape.query_heads // shape.kv_heads
        return [
            *(
                GroupedQueryAttention(kv_heads=shape.kv_heads, query_heads=shape.kv_heads * kept)
                for kept in _shares(group, self.attention.query_heads_percent)
            ),
            *(
                GroupedQueryAttention(kv_heads=kept, query_heads=kept * group)
                for kept in _shares(shape.kv_heads, self.attention.groups_percent)
            ),
        ]

    def _widths(self, shape: TransformerShape, multiple: int) -> list[int]:
        widths = []
        for percent in self.ffn.width_percent:
            width = max(1, round(shape.ffn_width * percent / 100 / multiple)) * multiple
            if width < shape.ffn_width and width not in widths:
                widths.append(width)
        return widths


def _shares(total: int, percents: tuple[float, ...]) -> list[int]:
    """Whole numbers below `total`, at least 1, each once."""
    kept = [max(1, round(total * percent / 100)) for percent in percents]
    return [n for n in dict.fromkeys(kept) if n < total]


def list_spaces() -> list[str]:
    """Names of the spaces of blocks that come with nas."""
    return names("blocks")


def load_space(name: str) -> SearchSpace:
    """A space of blocks by name, or by the path of a YAML file; raises ConfigError."""
    path, content = read(name, "blocks")
    try:
        return SearchSpace.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: not a search space: {error}") from error
