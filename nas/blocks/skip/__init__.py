"""No operation."""

from nas.blocks.skip.kind import SkipKind

__all__ = ["SkipKind"]
