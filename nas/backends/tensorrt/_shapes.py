"""Optimisation profiles: the sizes that an engine is tuned for and the sizes that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from nas.errors import ConfigError, PassError

Range = tuple[int, int, int]


class Shapes(Protocol):
    """The phases of an engine in the order of its profiles, and the sizes of each."""

    @property
    def phases(self) -> tuple[str, ...]: ...

    def ranges(self, phase: str) -> dict[str, Range]:
        """(least, tuned for, most) of each named dimension of the inputs."""


@dataclass(frozen=True)
class TextShapes:
    """Of an encoder: texts run together, the length to tune for, and the longest there may be."""

    batch: int
    tokens: int
    max_tokens: int

    def __post_init__(self) -> None:
        if self.batch < 1 or not 1 <= self.tokens <= self.max_tokens:
            raise ConfigError(
                f"engine shapes: batch {self.batch}, tokens {self.tokens}, max_tokens "
                f"{self.max_tokens}; batch and tokens must be at least 1 and tokens at most "
                f"max_tokens"
            )

    @property
    def phases(self) -> tuple[str, ...]:
        return ("prefill",)

    def ranges(self, phase: str) -> dict[str, Range]:
        """Any number of texts up to `batch`, of any length up to `max_tokens`."""
        return {
            "batch": (1, self.batch, self.batch),
            "sequence_length": (1, self.tokens, self.max_tokens),
        }


@dataclass(frozen=True)
class PictureShapes:
    """Of a classifier of pictures: how many run together."""

    batch: int

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"engine shapes: batch {self.batch}; it must be at least 1")

    @property
    def phases(self) -> tuple[str, ...]:
        return ("prefill",)

    def ranges(self, phase: str) -> dict[str, Range]:
        """Any number of pictures up to `batch`."""
        return {"batch": (1, self.batch, self.batch)}


@dataclass(frozen=True)
class EngineShapes:
    """Of a decoder: sequences run together, prompt length to tune for, and longest prompt with its
    answer."""

    batch: int
    prompt_tokens: int
    max_tokens: int

    def __post_init__(self) -> None:
        if self.batch < 1 or not 1 <= self.prompt_tokens < self.max_tokens:
            raise ConfigError(
                f"engine shapes: batch {self.batch}, prompt_tokens {self.prompt_tokens}, "
                f"max_tokens {self.max_tokens}; batch and prompt must be at least 1, and the "
                "prompt shorter than max_tokens"
            )

    @property
    def phases(self) -> tuple[str, ...]:
        return ("prefill", "decode")

    def ranges(self, phase: str) -> dict[str, Range]:
        """(least, tuned for, most) of each named dimension of the decoder's inputs."""
        batch, prompt, longest = self.batch, self.prompt_tokens, self.max_tokens
        if phase == "prefill":
            return {
                "batch": (1, batch, batch),
                "sequence_length": (1, prompt, longest),
                "past_sequence_length": (0, 0, 0),
                "total_sequence_length": (1, prompt, longest),
            }
        return {
            "batch": (1, batch, batch),
            "sequence_length": (1, 1, 1),
            "past_sequence_length": (1, prompt, longest - 1),
            "total_sequence_length": (2, prompt + 1, longest),
        }


def input_shapes(network: Any, ranges: dict[str, Range]) -> dict[str, list[list[int]]]:
    """Input name -> least, tuned and largest shape; raises PassError for an unknown dimension."""
    shapes: dict[str, list[list[int]]] = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        columns = [_range(tensor, axis, size, ranges) for axis, size in enumerate(tensor.shape)]
        shapes[tensor.name] = [[column[k] for column in columns] for k in range(3)]
    return shapes


def _range(tensor: Any, axis: int, size: int, ranges: dict[str, Range]) -> Range:
    if size >= 0:
        return (size, size, size)
    name = tensor.get_dimension_name(axis)
    if name not in ranges:
        raise PassError(
            f"input {tensor.name}: dimension {axis} ({name or 'unnamed'}) is none of "
            f"{', '.join(ranges)}; export the ONNX file with nas"
        )
    return ranges[name]
