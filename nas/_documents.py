"""JSON and YAML from files that anyone may have written: whatever is wrong is a ValueError.

The plain parsers also raise RecursionError, let a later key replace an earlier one unseen, and
expand a few lines of YAML aliases to gigabytes.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

import yaml

_YAML_LENGTH = 2**18
"""Characters. The parser takes seconds for each MiB, and no configuration is near this."""
_YAML_NODES = 100_000
_DEPTH = 100


def load_json(text: str, *, unique: bool = False) -> Any:
    """Parse JSON; with `unique` a key that stands twice in an object is refused."""
    try:
        return json.loads(text, object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def load_yaml(text: str) -> Any:
    """Parse YAML as `yaml.safe_load` does; repeated keys and what expands without end are refused.

    Integers are limited to 64 bits.
    """
    if len(text) > _YAML_LENGTH:
        raise ValueError(f"{len(text):,} characters; at most {_YAML_LENGTH:,} are read")
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def brief(value: object, length: int = 80) -> str:
    """`repr`, cut; also of an integer that is too long to be written out."""
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__} too long to write out"
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{brief(twice)} stands there twice; keep one of them")
    return found


class _Loader(yaml.SafeLoader):
    """Counts what aliases expand to before anything is made of them."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _expanded(node, {}, 0)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {brief(key.value)} stands there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    value = loader.construct_yaml_int(node)
    if not -(2**63) <= value < 2**64:
        raise yaml.constructor.ConstructorError(
            None, None, "an integer of more than 64 bits", node.start_mark
        )
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _expanded(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Nodes below `node`, those of aliases counted each time; raises YAMLError for too many."""
    if depth > _DEPTH:  # also an alias within what it names
        raise yaml.constructor.ConstructorError(None, None, "nested too deeply", node.start_mark)
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        known[id(node)] = 1 + sum(_expanded(part, known, depth + 1) for part in parts)
        if known[id(node)] > _YAML_NODES:
            raise yaml.constructor.ConstructorError(
                None, None, f"its aliases expand to more than {_YAML_NODES:,} values"
            )
    return known[id(node)]
