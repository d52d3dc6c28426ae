"""What pydantic finds wrong in a configuration, in the words and keys of the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from nas._documents import brief

_TAG = "kind"
"""The field by which sections that may stand in one place are told apart."""
_SCALAR = "constrained-float"
"""pydantic's name of a positive number that a section may stand in for."""

Location = tuple[str | int, ...]
Models = Sequence[type[BaseModel]]


def describe(error: ValidationError, root: type[BaseModel], where: str) -> str:
    """A line a mistake, each opened by `where` and the key, in the order of the file."""
    lines = [
        f"{where}: {_line(problem, root)}"
        for problem in error.errors()
        if not _is_other_reading(problem)
    ]
    return "\n".join(dict.fromkeys(lines))


def _is_other_reading(problem: Mapping[str, Any]) -> bool:
    """A number or a section may stand here: whether this is about the one that was not meant."""
    last = problem["loc"][-1:]
    if problem["type"] == "model_type":
        return bool(last == (problem["ctx"]["class_name"],))
    return bool(last == (_SCALAR,) and isinstance(problem["input"], Mapping))


def _line(problem: Mapping[str, Any], root: type[BaseModel]) -> str:
    kind, location = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        key, models = _resolve(location[:-1], root)
        unknown = str(location[-1])
        known = sorted({name for model in models for name in model.model_fields})
        return f"{f'{key}.' if key else ''}{unknown}: unknown key{_hint(unknown, known, 'keys')}"
    key, models = _resolve(location, root)
    if kind == "union_tag_invalid":
        tag, known = problem["ctx"]["tag"], [_tag(model) for model in models]
        return f"{key}.{_TAG}: no {_TAG} is named {tag!r}{_hint(tag, known, f'{_TAG}s')}"
    if kind == "union_tag_not_found":
        return f"{key}.{_TAG}: required; one of {', '.join(map(_tag, models))}"
    if kind == "value_error" and not key:
        return str(problem["ctx"]["error"])
    if kind == "missing":
        return f"{key}: required"
    return f"{key}: {problem['msg']} (found {brief(problem['input'])})"


def _hint(name: str, known: Sequence[str], what: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known {what}: {', '.join(known)}"


def _resolve(location: Location, root: type[BaseModel]) -> tuple[str, Models]:
    """The key as it is written, such as `data.sources[0].path`, and the sections that may stand
    there. pydantic's location also names the section that it took; the key does not."""
    key, models = "", [root]
    for part in location:
        chosen = [model for model in models if part in (_tag(model), model.__name__)]
        if isinstance(part, int):
            key += f"[{part}]"
        elif chosen:
            models = chosen
        elif part != _SCALAR:
            key += f".{part}" if key else part
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            if fields:  # else a name that the user gave, of a section such as those beside it
                models = [found for field in fields for found in _sections(field.annotation)]
    return key, models


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a type is made of, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _tag(model: type[BaseModel]) -> str:
    """What tells `model` from its alternatives; empty where it has none."""
    field = model.model_fields.get(_TAG)
    return "" if field is None else str(field.default)
