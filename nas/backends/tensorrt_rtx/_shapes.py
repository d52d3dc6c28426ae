"""Optimisation profiles: the sizes that an engine is tuned for and the sizes that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.errors import ConfigError, PassError

Range = tuple[int, int, int]
PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class EngineShapes:
    """Sequences run together, prompt length to tune for, and longest prompt with its answer."""

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
