"""Cutting the token stream into train | score | evaluate, and the record of it."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas.config import DataConfig
from nas.errors import ConfigError


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceRecord(_Record):
    """A source as it was read: SHA-256 over its documents, and their tokens without separators."""

    name: str
    sha256: str
    documents: int = Field(gt=0)
    tokens: int = Field(ge=0)


class Part(_Record):
    """Tokens [start, stop) of the stream, and how many windows of it are used."""

    start: int = Field(ge=0)
    stop: int = Field(ge=0)
    sequences: int = Field(gt=0)


class Split(_Record):
    """Which text went where. `sampled_tokens` of the teacher joined the training windows."""

    sequence_length: int = Field(gt=0)
    seed: int
    stream_tokens: int
    sources: tuple[SourceRecord, ...]
    train: Part
    score: Part
    evaluate: Part
    sampled_tokens: int = 0

    @model_validator(mode="after")
    def _apart(self) -> Self:
        parts = (self.train, self.score, self.evaluate)
        edges = [edge for part in parts for edge in (part.start, part.stop)]
        if edges != sorted(edges) or edges[-1] > self.stream_tokens:
            raise ValueError(f"parts overlap or leave the stream: {edges}")
        for part in parts:
            if part.sequences * self.sequence_length > part.stop - part.start:
                raise ValueError(f"{part.sequences} windows do not fit [{part.start}, {part.stop})")
        return self


def cut(tokens: int, sources: tuple[SourceRecord, ...], config: DataConfig, seed: int) -> Split:
    """Where the parts of a stream of `tokens` lie; raises ConfigError where one would be empty.

    Evaluation is the start of the last `evaluate_fraction`, scoring ends where that begins, and
    training has all that is before.
    """
    length = config.sequence_length
    held_out = tokens - int(tokens * config.evaluate_fraction)
    evaluated = min(config.evaluate_tokens or tokens, tokens - held_out) // length
    scored = held_out - config.score_sequences * length
    trained = min(config.train_tokens or tokens, scored) // length
    if evaluated < 1 or trained < 1:
        raise ConfigError(_too_little(tokens, config, trained < 1))
    return Split(
        sequence_length=length,
        seed=seed,
        stream_tokens=tokens,
        sources=sources,
        train=Part(start=0, stop=scored, sequences=trained),
        score=Part(start=scored, stop=held_out, sequences=config.score_sequences),
        evaluate=Part(start=held_out, stop=held_out + evaluated * length, sequences=evaluated),
    )


def _too_little(tokens: int, config: DataConfig, train: bool) -> str:
    limits = {"train_tokens": config.train_tokens, "evaluate_tokens": config.evaluate_tokens}
    for name, limit in limits.items():
        if limit is not None and limit < config.sequence_length:
            return (
                f"data.{name}: {limit} is less than one window of data.sequence_length "
                f"{config.sequence_length}; raise it"
            )
    part = "training" if train else "evaluation"
    return (
        f"data: {tokens} tokens of text leave no window of {config.sequence_length} for {part} "
        f"(data.evaluate_fraction {config.evaluate_fraction}, data.score_sequences "
        f"{config.score_sequences}); add text or lower data.sequence_length"
    )
