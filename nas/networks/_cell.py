"""Cells of NAS-Bench-201 (Dong and Yang 2020): four nodes, six edges, one operation an edge.

An architecture string names the edges into each node in turn, as in
`|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|`, where
`~k` is the node that the edge comes from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from nas.errors import ConfigError

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""Operations with weights."""
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""From node, to node, in the order of the string."""
_EDGE = re.compile(r"([a-z0-9_]+)~([0-9])")


@dataclass(frozen=True)
class Cell:
    """One operation an edge, in the order of `EDGES`."""

    operations: tuple[str, ...]

    @classmethod
    def of(cls, operations: Sequence[str]) -> Self:
        """Raises ConfigError for a wrong number or an unknown operation."""
        if len(operations) != len(EDGES):
            raise ConfigError(f"a cell has {len(EDGES)} operations, not {len(operations)}")
        unknown = [name for name in operations if name not in OPERATIONS]
        if unknown:
            raise ConfigError(f"no operation {unknown[0]!r}; known: {', '.join(OPERATIONS)}")
        return cls(tuple(operations))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From an architecture string, edges into a node in any order; raises ConfigError."""
        found: dict[tuple[int, int], str] = {}
        for node, group in enumerate(text.split("+"), start=1):
            for part in group.strip("|").split("|"):
                match = _EDGE.fullmatch(part)
                if match is None:
                    raise ConfigError(f"{text}: {part!r} is no edge such as nor_conv_3x3~0")
                found[int(match[2]), node] = match[1]
        if sorted(found) != sorted(EDGES):
            raise ConfigError(f"{text}: write one operation for each of the {len(EDGES)} edges")
        return cls.of([found[edge] for edge in EDGES])

    @property
    def text(self) -> str:
        """The canonical architecture string: edges into a node by the node they come from."""
        groups: list[list[str]] = [[], [], []]
        for (source, node), operation in zip(EDGES, self.operations, strict=True):
            groups[node - 1].append(f"{operation}~{source}")
        return "+".join(f"|{'|'.join(group)}|" for group in groups)

    @property
    def isomorphism_class(self) -> str:
        """Equal for cells that compute the same: a skip is its source, zeros vanish, sums have no
        order.

        Coarser than the classes that go with NAS-Bench-201 (6,466), which tell sums apart by how
        many zeros are in them; there are 4,930 of these, and each holds whole classes of those.
        """
        terms: list[list[str]] = [["x"], [], [], []]
        for (source, node), operation in zip(EDGES, self.operations, strict=True):
            if operation == "skip_connect":
                terms[node] += terms[source]
            elif operation != "none" and terms[source]:
                terms[node].append(f"{operation}({'+'.join(sorted(terms[source]))})")
        return "+".join(sorted(terms[3])) or "0"

    @property
    def depth(self) -> int:
        """Convolutions on the longest path from the first node to the last; 0 without a path."""
        longest: list[int | None] = [0, None, None, None]
        for (source, node), operation in zip(EDGES, self.operations, strict=True):
            before = longest[source]
            if operation != "none" and before is not None:
                longest[node] = max(longest[node] or 0, before + (operation in KERNELS))
        return longest[3] or 0
