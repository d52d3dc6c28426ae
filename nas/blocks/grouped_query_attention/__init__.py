"""Grouped-query attention."""

from nas.blocks.grouped_query_attention.kind import GroupedQueryAttentionKind
from nas.blocks.grouped_query_attention.module import GroupedQueryAttentionBlock

__all__ = ["GroupedQueryAttentionBlock", "GroupedQueryAttentionKind"]
