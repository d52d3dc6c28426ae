"""What a model family and a weight source have to offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Set
from typing import Any, ClassVar

from torch import Tensor

from nas.ir import ChainShape, DecoderShape
from nas.teachers._names import HUGGING_FACE, Layout

Stored = Callable[[str], Tensor]
"""The tensor that is stored for one of the chain's names, or for a part that one is made from."""


class Family(ABC):
    """One architecture of transformers, read as a chain. Foreign configuration keys stop here."""

    model_type: ClassVar[str]
    """`model_type` of transformers' configuration."""

    config_class: ClassVar[str]
    """Name of the configuration class in transformers."""

    model_classes: ClassVar[tuple[str, ...]]
    """The entries of `architectures` that are accepted; the first is what is expected."""

    layout: ClassVar[Layout]
    """How a Hugging Face checkpoint spells parameters."""

    @abstractmethod
    def shape(self, config: Any) -> ChainShape:
        """The shape a transformers configuration describes.

        Raises CapabilityError where the chain cannot express it.
        """

    def foreign_names(self, name: str) -> tuple[str, ...]:
        """Names that a checkpoint may store the parameter `name` under, most likely first."""
        return (self.layout.foreign(name),)

    def parameter(self, name: str, stored: Stored, shape: ChainShape) -> Tensor:
        """The chain's parameter `name`: what is stored for it, or made from several tensors."""
        return stored(name)

    @abstractmethod
    def ignorable(self, name: str) -> bool:
        """Whether a stored tensor that the chain does not ask for may be left unread."""


class DecoderFamily(Family):
    """Llama and its kin."""

    layout = HUGGING_FACE

    gguf_pairs_neighbours: ClassVar[bool] = False
    """Whether GGUF files store query and key rows so that rotary halves are interleaved."""

    @abstractmethod
    def shape(self, config: Any) -> DecoderShape:
        """As `Family.shape`."""

    def ignorable(self, name: str) -> bool:
        # old checkpoints store the angles; a tied head may be stored once more
        return name.endswith("rotary_emb.inv_freq") or name == "lm_head.weight"


class TeacherSource(ABC):
    """A place that a teacher is read from."""

    @abstractmethod
    def shape(self) -> ChainShape:
        """The shape, read without any weight."""

    @abstractmethod
    def tensor_names(self) -> Set[str]:
        """Names of all stored tensors, in the source's own spelling."""

    @abstractmethod
    def foreign_name(self, name: str) -> str:
        """The stored name of the chain's parameter `name`."""

    @abstractmethod
    def read(self, name: str) -> Tensor:
        """The stored tensor `name` on the CPU, laid out as the chain wants it."""

    def parameter(self, name: str, stored: Stored) -> Tensor:
        """The chain's parameter `name`: what is stored for it, or made from several tensors."""
        return stored(name)

    @abstractmethod
    def ignorable(self, name: str) -> bool:
        """Whether a stored tensor that the chain does not ask for may be left unread."""

    @abstractmethod
    def tokenizer(self) -> Any:
        """The tokenizer that the source carries; raises ConfigError where it has none."""

    def preprocessing(self) -> dict[str, Any]:
        """How a picture of any size becomes what the network takes, in the keys of transformers'
        preprocessor_config.json; mean and deviation are the shape's. Empty where nothing says it.
        """
        return {}

    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty where nothing says them."""
        return ()

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over the bytes of the weight files."""
