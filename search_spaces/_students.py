"""Spaces of whole students: a builder, and the values of each of its dimensions."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from nas.errors import ConfigError
from search_spaces._files import names, read

if TYPE_CHECKING:
    from nas.networks import NetworkSpec

Choice = tuple[int, ...]
"""An architecture: for each dimension, the place of its value."""
Positive = Annotated[int, Field(gt=0)]
Operation = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]


class StudentSpace(BaseModel, ABC):
    """What all students of a space have in common, and where they differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    source: str = ""

    @property
    @abstractmethod
    def dimensions(self) -> dict[str, tuple[str | float, ...]]:
        """The values of each dimension, in the order of a choice."""

    @abstractmethod
    def spec(self, choice: Choice) -> NetworkSpec:
        """The network of a choice, ready to be counted or built."""

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.dimensions.values())

    @property
    def count(self) -> int:
        """How many architectures there are."""
        return math.prod(self.sizes)

    def choices(self) -> Iterator[Choice]:
        """Every architecture, the last dimension fastest."""
        return product(*(range(size) for size in self.sizes))

    def key(self, choice: Choice) -> str:
        """The readable name of an architecture, unique in the space."""
        return self.spec(choice).key

    def sample(self, rng: random.Random) -> Choice:
        """An architecture, each as likely as any other."""
        return tuple(rng.randrange(size) for size in self.sizes)

    def mutate(self, choice: Choice, rng: random.Random) -> Choice:
        """The architecture with another value in one dimension; itself if there is no other."""
        open_to = [i for i, size in enumerate(self.sizes) if size > 1]
        if not open_to:
            return choice
        at = rng.choice(open_to)
        value = rng.randrange(self.sizes[at] - 1)
        return (*choice[:at], value + (value >= choice[at]), *choice[at + 1 :])

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name, values in self.dimensions.items():
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: give at least one value, and each once")
        return self


class ImageSpace(StudentSpace, ABC):
    """Networks over square pictures."""

    classes: Positive = 10
    image_size: Positive = 32


class CifarResNetSpace(ImageSpace):
    """`blocks`: the numbers of blocks that each of the three stages may have."""

    builder: Literal["cifar_resnet"]
    blocks: tuple[tuple[Positive, ...], tuple[Positive, ...], tuple[Positive, ...]]
    widths: tuple[Positive, Positive, Positive] = (16, 32, 64)

    @property
    def dimensions(self) -> dict[str, tuple[str | float, ...]]:
        return {f"blocks_{i + 1}": values for i, values in enumerate(self.blocks)}

    def spec(self, choice: Choice) -> NetworkSpec:
        from nas.networks import CifarResNetSpec

        first, second, third = (v[i] for v, i in zip(self.blocks, choice, strict=True))
        return CifarResNetSpec((first, second, third), self.widths, self.classes, self.image_size)


class NasBench201Space(ImageSpace):
    """`operations`: what each of the six edges of a cell may be."""

    builder: Literal["nasbench201"]
    operations: tuple[Operation, ...]
    width: Positive = 16
    cells: Positive = 5

    @property
    def dimensions(self) -> dict[str, tuple[str | float, ...]]:
        edges = ("0_1", "0_2", "1_2", "0_3", "1_3", "2_3")
        return {f"edge_{edge}": self.operations for edge in edges}

    def spec(self, choice: Choice) -> NetworkSpec:
        from nas.networks import Cell, NasBench201Spec

        cell = Cell(tuple(self.operations[i] for i in choice))
        return NasBench201Spec(cell, self.width, self.cells, self.classes, self.image_size)


class BertSpace(StudentSpace):
    """Layers that are all alike. `tokens` is the length of the sequence that costs are of."""

    builder: Literal["bert"]
    layers: tuple[Positive, ...]
    heads: tuple[Positive, ...]
    hidden: tuple[Positive, ...]
    mlp_ratio: tuple[Annotated[float, Field(gt=0)], ...]
    teacher_heads: Positive = 12
    vocabulary: Positive = 30_522
    positions: Positive = 512
    tokens: Positive = 128

    @property
    def dimensions(self) -> dict[str, tuple[str | float, ...]]:
        return {
            "layers": self.layers,
            "heads": self.heads,
            "hidden": self.hidden,
            "mlp_ratio": self.mlp_ratio,
        }

    def spec(self, choice: Choice) -> NetworkSpec:
        from nas.networks import BertSpec

        layers, heads, hidden, ratio = choice
        return BertSpec(
            self.layers[layers],
            self.heads[heads],
            self.hidden[hidden],
            self.mlp_ratio[ratio],
            teacher_heads=self.teacher_heads,
            vocabulary=self.vocabulary,
            positions=self.positions,
            tokens=self.tokens,
        )


AnyStudentSpace = Annotated[
    CifarResNetSpace | NasBench201Space | BertSpace, Field(discriminator="builder")
]
_ADAPTER: TypeAdapter[CifarResNetSpace | NasBench201Space | BertSpace] = TypeAdapter(
    AnyStudentSpace
)


def list_student_spaces() -> list[str]:
    """Names of the spaces of whole students that come with nas."""
    return names("students")


def load_student_space(name: str) -> StudentSpace:
    """A space of whole students by name, or by the path of a YAML file; raises ConfigError."""
    path, content = read(name, "students")
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'][1:])) or 'builder'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ConfigError(f"{path}: not a space of students: {problems}") from error
