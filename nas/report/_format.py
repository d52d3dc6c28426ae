"""Numbers as people read them. None and nothing become an en dash."""

from __future__ import annotations

import math
import re

from nas.ir import (
    BasicConvolution,
    BlockSpec,
    BottleneckConvolution,
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    LinearMap,
    LowRankConvolution,
    SeparableConvolution,
    precision_of,
)

NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_NARROW = "\N{NARROW NO-BREAK SPACE}"


def fixed(value: float | None, digits: int = 2) -> str:
    """`digits` after the point, a true minus, narrow spaces between thousands."""
    if value is None:
        return NOTHING
    text = f"{abs(value):,.{digits}f}".replace(",", _NARROW)
    negative = value < 0 and any(c in "123456789" for c in text)
    return _MINUS + text if negative else text


def significant(value: float | None, digits: int = 3) -> str:
    """As many places as `digits` significant figures need; never an exponent above 1e-6."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if abs(value) < 1e-6:
        return f"{value:.1e}".replace("-", _MINUS)
    # Rounding first: 0.09996 has one place fewer than its logarithm says.
    rounded = float(f"{value:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return fixed(value, max(0, places))


def like(value: float | None, reference: float | None, digits: int = 4) -> str:
    """With the places that give `reference` its `digits`, so that a column lines up."""
    if not reference:
        return significant(value, digits)
    return fixed(value, max(0, digits - 1 - math.floor(math.log10(abs(reference)))))


def ratio(value: float | None) -> str:
    """Such as 1.52 with a multiplication sign."""
    return NOTHING if value is None else f"{fixed(value, 2)}\N{MULTIPLICATION SIGN}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of one as per cent."""
    return NOTHING if share is None else f"{fixed(100 * share, digits)}{_NARROW}%"


def signed_percent(value: float | None) -> str:
    """Per cent that is already one, with its sign."""
    if value is None:
        return NOTHING
    text = fixed(value, 1)
    return f"{'+' if value > 0 and text != '0.0' else ''}{text}{_NARROW}%"


def count(value: float | None) -> str:
    return fixed(value, 0)


def duration(seconds: float | None) -> str:
    """Such as `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f}{_NARROW}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{_NARROW}s"
    if whole < 3600:
        return f"{whole // 60}{_NARROW}min {whole % 60:02d}{_NARROW}s"
    return f"{whole // 3600}{_NARROW}h {whole % 3600 // 60:02d}{_NARROW}min"


def file_size(size: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{count(size) if unit == 'B' else fixed(size, 1)}{_NARROW}{unit}"
        size /= 1024
    return f"{fixed(size, 2)}{_NARROW}GiB"


def title_of(name: str) -> str:
    """`uniform_ffn` as `Uniform FFN`, `stage2` as `Stage 2`."""
    known = {"ffn": "FFN", "kv": "KV"}
    name = re.sub(r"^stage(?=\d)", "stage ", name)
    words = " ".join(known.get(word, word) for word in name.replace("_", " ").split())
    return words[:1].upper() + words[1:]


_IN_WORDS = {
    "float": "",
    "float16": ", in half precision",
    "int8": ", weights of eight bits",
    "int8_dynamic": ", in eight bits",
}


def block_in_words(block: BlockSpec, kept: float) -> str:
    """What a block is, for people."""
    return _structure_in_words(block, kept) + _IN_WORDS[precision_of(block)]


def _structure_in_words(block: BlockSpec, kept: float) -> str:
    if isinstance(block, KeepTeacher):
        return "the teacher's block"
    if isinstance(block, GroupedQueryAttention):
        kv_heads = f"{block.kv_heads} KV head{'s' if block.kv_heads != 1 else ''}"
        if block.query_heads is None:
            return f"attention with {kv_heads}"
        return f"attention with {block.query_heads} query heads on {kv_heads}"
    if isinstance(block, (GatedFeedForward, FeedForward)):
        return f"FFN {block.width} wide, {percent(kept, 0)} of the teacher's"
    if isinstance(block, BasicConvolution):
        return f"two 3x3 with {block.width} channels between, {percent(kept, 0)} of the teacher's"
    if isinstance(block, BottleneckConvolution):
        return f"1x1, 3x3, 1x1 with {block.width} channels between"
    if isinstance(block, SeparableConvolution):
        return f"{block.multiplier} filter(s) on each channel alone, then 1x1"
    if isinstance(block, LowRankConvolution):
        return "one 3x3" if block.rank is None else f"one linear 3x3 of rank {block.rank}"
    if isinstance(block, LinearMap):
        return "one linear layer"
    return "nothing: the residual stream passes"
