"""One linear layer."""

from nas.blocks.linear_map.kind import LinearMapKind
from nas.blocks.linear_map.module import LinearMapBlock

__all__ = ["LinearMapBlock", "LinearMapKind"]
