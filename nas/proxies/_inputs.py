"""All that is shown to networks of a space: batches of data, or of noise where none is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.data import ImageSet, load_images, load_tokens
from nas.errors import ConfigError
from nas.networks import ImageNetwork, is_trained, load_encoder_teacher, load_image_teacher
from nas.proxies._base import Batch, Kind, Proxy, TeacherView
from nas.proxies._scoring import Sitting
from nas.run import file_digest
from search_spaces import BertSpace, ImageSpace, StudentSpace

Ids = NDArray[np.int64]
_COPY_THE_SPACE = "copy its file, set classes there and give its path as --space"


class Inputs:
    """Data and teacher, checked against the space. Raises ConfigError."""

    def __init__(self, space: StudentSpace, data: Path | None, teacher: str | None) -> None:
        self.space = space
        self.images: ImageSet | None = None
        self.tokens: Ids | None = None
        self.teacher: nn.Module | None = None
        self._data, self._source = data, teacher
        if isinstance(space, ImageSpace):
            self.images = None if data is None else _checked_images(load_images(data), space, data)
            self.teacher = None if teacher is None else image_teacher(teacher, space)
        else:
            self.tokens = None if data is None else _checked_tokens(load_tokens(data), space, data)
            self.teacher = None if teacher is None else load_encoder_teacher(teacher)

    def about(self) -> dict[str, object]:
        """What identifies data and teacher."""
        return {
            "data": None if self._data is None else file_digest(self._data),
            "teacher": teacher_digest(self._source),
        }

    @property
    def kind(self) -> Kind:
        """What the students read."""
        return "pictures" if isinstance(self.space, ImageSpace) else "tokens"

    def require(self, proxies: Mapping[str, Proxy]) -> None:
        """Raise ConfigError where a proxy needs what was not given, or is for other students."""
        for name, proxy in proxies.items():
            if proxy.over not in (None, self.kind):
                raise ConfigError(
                    f"--proxy {name} is for networks over {proxy.over}; those of the space are "
                    f"over {self.kind}"
                )
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
            made.append(Sitting(shown, self._view(shown), k))
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
        if self.teacher is None or self._source is None:
            return None
        return TeacherView(self.teacher, batch, trained=is_trained(self._source))


def _noise(space: StudentSpace, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(space, ImageSpace):
        return torch.randn(size, 3, space.image_size, space.image_size, generator=generator)
    assert isinstance(space, BertSpace)
    return torch.randint(space.vocabulary, (size, space.tokens), generator=generator)


def _checked_images(images: ImageSet, space: ImageSpace, path: Path) -> ImageSet:
    if images.side != space.image_size:
        raise ConfigError(
            f"{path}: pictures of side {images.side}; the space is of {space.image_size}"
        )
    if (images.classes or 0) > space.classes:
        raise ConfigError(
            f"{path}: labels of {images.classes} classes; the space has {space.classes}: "
            f"{_COPY_THE_SPACE}"
        )
    return images


def _checked_tokens(tokens: Ids, space: StudentSpace, path: Path) -> Ids:
    assert isinstance(space, BertSpace)
    if tokens.max() >= space.vocabulary or tokens.shape[1] > space.positions:
        raise ConfigError(
            f"{path}: ids up to {tokens.max()} in windows of {tokens.shape[1]}; the space has "
            f"{space.vocabulary} ids and {space.positions} positions"
        )
    return tokens


def image_teacher(source: str, space: ImageSpace, option: str = "--teacher") -> ImageNetwork:
    """A teacher of the classes of `space`; raises ConfigError, naming `option`."""
    teacher = load_image_teacher(source, classes=space.classes)
    if teacher.head.out_features != space.classes:
        raise ConfigError(
            f"{option} {source}: {teacher.head.out_features} classes; the space has "
            f"{space.classes}: {_COPY_THE_SPACE}"
        )
    return teacher


def teacher_digest(source: str | None) -> str | None:
    """What identifies a teacher: its weights, or the name of a fresh one."""
    if source is None:
        return None
    path = Path(source)
    files: Sequence[Path] = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return "+".join(file_digest(file) for file in files) or source
