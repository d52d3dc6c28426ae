"""What a source of text offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator


class TextSource(ABC):
    """Documents of plain text, in an order that depends on nothing but the source and the seed."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the source is called in messages and in the recorded split."""

    @abstractmethod
    def documents(self) -> Iterator[str]:
        """The documents, none of them empty; raises ConfigError naming file and fix."""
