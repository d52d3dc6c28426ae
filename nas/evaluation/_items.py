"""Questions in JSONL files: multiple choice and cloze."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nas._documents import load_json
from nas.errors import ConfigError

_QUESTION, _ANSWER = "Question:", "Answer:"


class MultipleChoice(BaseModel):
    """A query and its possible continuations; `gold` is the index of the right one."""

    model_config = ConfigDict(frozen=True)

    query: str
    choices: tuple[str, ...] = Field(min_length=2)
    gold: int = Field(ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gold >= len(self.choices):
            raise ValueError(f"gold is {self.gold}, but there are {len(self.choices)} choices")
        if not all(choice.strip() for choice in self.choices):
            raise ValueError("a choice is empty")
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """(context, continuation) of each choice."""
        return [_split(_prompt(self.query), choice) for choice in self.choices]


class Cloze(BaseModel):
    """A context and the one continuation that counts as right."""

    model_config = ConfigDict(frozen=True)

    context: str
    continuation: str = Field(pattern=r"\S")

    def pairs(self) -> list[tuple[str, str]]:
        """(context, continuation), once."""
        return [_split(self.context, self.continuation)]


Item = MultipleChoice | Cloze


def read_items(path: Path, limit: int | None = None) -> list[Item]:
    """The first `limit` items of a JSONL file, all of one kind; other keys are ignored.

    Raises ConfigError naming the line that is wrong.
    """
    items: list[Item] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if limit is not None and len(items) >= limit:
                    break
                if line.strip():
                    items.append(_parse(line, f"{path}: line {number}"))
                    if type(items[-1]) is not type(items[0]):
                        raise ConfigError(
                            f"{path}: line {number}: not of the kind of the lines before; keep "
                            "multiple choice and cloze in separate files"
                        )
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not items:
        raise ConfigError(f"{path}: no items; one JSON object a line is expected")
    return items


def _parse(line: str, where: str) -> Item:
    try:
        data = load_json(line, unique=True)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from error
    kind = MultipleChoice if isinstance(data, dict) and "choices" in data else Cloze
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{where}: {field + ': ' if field else ''}{first['msg']}; expected query, choices and "
            "gold, or context and continuation"
        ) from None


def _prompt(query: str) -> str:
    """`query`, asked to answer where it is written as a question."""
    if query.startswith(_QUESTION) and _ANSWER not in query:
        return f"{query.rstrip()}\n{_ANSWER}"
    return query


def _split(context: str, continuation: str) -> tuple[str, str]:
    """Both with the space between them, if any, at the head of the continuation.

    Byte-pair vocabularies join a space to the word after it; a line break stays with the context.
    """
    if not context or context.endswith("\n"):
        return context, continuation.lstrip(" ")
    return context.rstrip(" "), " " + continuation.lstrip(" ")
