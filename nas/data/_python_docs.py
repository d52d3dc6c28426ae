"""English reference text that every Python carries."""

from __future__ import annotations

import random
from collections.abc import Iterator

from nas._imports import require
from nas.data._base import TextSource


class PythonDocsSource(TextSource):
    """The topics of `help()`, one document each, about 460 kB.

    They are shuffled by the seed: in alphabetical order the last tenth would be of another kind
    than the first.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @property
    def name(self) -> str:
        return "pydoc_data.topics"

    def documents(self) -> Iterator[str]:
        topics: dict[str, str] = require("pydoc_data.topics").topics
        names = sorted(topics)
        random.Random(self.seed).shuffle(names)
        for name in names:
            yield topics[name]
