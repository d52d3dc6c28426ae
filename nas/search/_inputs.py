"""Everything a search shows to networks: batches of data, or of noise where no data is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.data import ImageSet, load_images, load_tokens
from nas.errors import ConfigError
from nas.networks import load_encoder_teacher, load_image_teacher
from nas.networks._teacher import UNTRAINED
from nas.proxies import Batch, Proxy, TeacherView
from nas.run import file_digest
from nas.search._scorer import Sitting
from search_spaces import StudentSpace
from search_spaces._students import BertSpace


class Inputs:
    """Data and teacher of a search, checked against its space. Raises ConfigError."""

    def __init__(self, space: StudentSpace, data: Path | None, teacher: str | None) -> None:
        self.space = space
        self.images: ImageSet | None = None
        self.tokens: np.ndarray | None = None
        self.teacher: nn.Module | None = None
        self._data, self._source = data, teacher
        if isinstance(space, BertSpace):
            self.tokens = None if data is None else _checked_tokens(load_tokens(data), space, data)
            self.teacher = None if teacher is None else load_encoder_teacher(teacher)
        else:
            self.images = None if data is None else _checked_images(load_images(data), space, data)
            self.teacher = None if teacher is None else _image_teacher(teacher, space)

    def about(self) -> dict[str, object]:
        """What identifies data and teacher."""
        source = self._source
        return {
            "data": None if self._data is None else file_digest(self._data),
            "teacher": None if source is None else _teacher_digest(source),
        }

    def require(self, proxies: Mapping[str, Proxy]) -> None:
        """Raise ConfigError where a proxy needs what was not given."""
        for name, proxy in proxies.items():
            if {"data", "labels"} & proxy.needs and self._data is None:
                raise ConfigError(f"--proxy {name} needs data; give --data FILE")
            if "labels" in proxy.needs and (self.images is None or self.images.labels is None):
                raise ConfigError(f"--proxy {name} needs labels, which {self._data} has not")
            if "teacher" in proxy.needs and self.teacher is None:
                raise ConfigError(f"--proxy {name} needs a teacher; give --teacher")

    def sittings(self, inits: int, batch: int, seed: int) -> list[Sitting]:
        """`inits` seeds, each with its own batch of `batch` inputs."""
        made = []
        for k in range(seed, seed + inits):
            shown = self._batch(batch, k)
            made.append(Sitting(k, shown, self._view(shown)))
        return made

    def example(self) -> Tensor:
        """One input, to be timed on."""
        return _noise(self.space, 1, 0)

    def _batch(self, size: int, seed: int) -> Batch:
        if self.images is not None:
            return Batch(*self.images.draw(size, seed))
        if self.tokens is None:
            return Batch(_noise(self.space, size, seed))
        if size > len(self.tokens):
            raise ConfigError(f"--batch {size}: the data has {len(self.tokens)} windows only")
        rows = np.random.default_rng(seed).permutation(len(self.tokens))[:size]
        return Batch(torch.from_numpy(self.tokens[rows]))

    def _view(self, batch: Batch) -> TeacherView | None:
        if self.teacher is None:
            return None
        trained = not (self._source or "").startswith(UNTRAINED)
        return TeacherView(self.teacher, batch, trained=trained)


def _noise(space: StudentSpace, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(space, BertSpace):
        return torch.randint(space.vocabulary, (size, space.tokens), generator=generator)
    side = _side(space)
    return torch.randn(size, 3, side, side, generator=generator)


def _checked_images(images: ImageSet, space: StudentSpace, path: Path) -> ImageSet:
    side, classes = _side(space), _classes(space)
    if images.side != side:
        raise ConfigError(f"{path}: pictures of side {images.side}; the space is of {side}")
    if (images.classes or 0) > classes:
        raise ConfigError(
            f"{path}: labels of {images.classes} classes; the space has {classes}: copy its file, "
            "set classes there and give its path as --space"
        )
    return images


def _checked_tokens(tokens: np.ndarray, space: BertSpace, path: Path) -> np.ndarray:
    if tokens.max() >= space.vocabulary or tokens.shape[1] > space.positions:
        raise ConfigError(
            f"{path}: ids up to {tokens.max()} in windows of {tokens.shape[1]}; the space has "
            f"{space.vocabulary} ids and {space.positions} positions"
        )
    return tokens


def _image_teacher(source: str, space: StudentSpace) -> nn.Module:
    classes = _classes(space)
    teacher = load_image_teacher(source, classes=classes)
    if teacher.head.out_features != classes:
        raise ConfigError(
            f"--teacher {source}: {teacher.head.out_features} classes; the space has {classes}: "
            "copy its file, set classes there and give its path as --space"
        )
    return teacher


def _teacher_digest(source: str) -> str:
    path = Path(source)
    files: Sequence[Path] = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return "+".join(file_digest(file) for file in files) or source


def _side(space: StudentSpace) -> int:
    return int(space.model_dump()["image_size"])


def _classes(space: StudentSpace) -> int:
    return int(space.model_dump()["classes"])
