"""JSON with what a plain parser hides: repeated keys, and where a torn file breaks off."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.errors import ArtifactError

# A string that does not end is one token, too: else each of its quotes is a start to look on from.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\]:,]', re.DOTALL)


class Node(dict[str, Any]):
    """A JSON object that remembers the first key it was given twice."""

    repeated: str | None = None


def parse_json(text: str, path: Path) -> Any:
    """Objects come as `Node`; raises ArtifactError naming line, slot and variant."""
    try:
        return json.loads(text, object_pairs_hook=_node)
    except json.JSONDecodeError as error:
        place = _place(text, error.pos)
        raise ArtifactError(
            f"{path}: line {error.lineno}, column {error.colno}{place}: {error.msg}; the file is "
            "torn or no JSON: write it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error}); write it again") from error


def _node(pairs: Sequence[tuple[str, Any]]) -> Node:
    node = Node(pairs)
    if len(node) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        node.repeated = next(key for key, count in counts.items() if count > 1)
    return node


def _place(text: str, position: int) -> str:
    """Such as ` (slot 7, variant gqa_4)`: the keys of the objects open at `position`."""
    stack: list[str] = []
    last = ""
    for match in _TOKEN.finditer(text, 0, position):
        token = match.group()
        if token in "{[":
            stack.append("")
        elif token in "}]":
            del stack[-1:]
        elif token == ":" and stack:
            stack[-1] = last
        elif token == "," and stack:
            stack[-1] = ""
        else:
            last = token[1:-1]
    named = zip(("slot", "variant"), stack, strict=False)
    words = ", ".join(f"{what} {key}" for what, key in named if key)
    return f" ({words})" if words else ""
