"""Labelled pictures and token windows from .npz files, and batches drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.errors import ConfigError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""The normalisation that networks over colour pictures are usually trained with."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures uint8 [N, H, W, 3] and, where there are any, their labels [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD

    def __len__(self) -> int:
        return len(self.images)

    @property
    def side(self) -> int:
        """Height, which is also the width."""
        return int(self.images.shape[1])

    @property
    def classes(self) -> int | None:
        """One more than the highest label."""
        return None if self.labels is None else int(self.labels.max()) + 1

    def take(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """Normalised pictures [n, 3, H, W] and labels [n] of `rows`."""
        pixels = torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        labels = None if self.labels is None else torch.from_numpy(self.labels[rows])
        return ((pixels - mean) / std).contiguous(), labels

    def draw(self, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """`count` pictures, each class in its share; raises ConfigError if there are fewer."""
        if count > len(self):
            raise ConfigError(f"--batch {count}: the data has {len(self)} pictures only")
        return self.take(self._shuffled(seed)[:count])

    def split(self, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
        """The pictures without a `share` of each class, and that share."""
        order = self._shuffled(seed)
        held = round(share * len(self))
        return self._rows(order[held:]), self._rows(order[:held])

    def _rows(self, rows: NDArray[np.int64]) -> ImageSet:
        labels = None if self.labels is None else self.labels[rows]
        return ImageSet(self.images[rows], labels, self.mean, self.std)

    def _shuffled(self, seed: int) -> NDArray[np.int64]:
        """All rows in a random order any beginning of which has each class in its share."""
        order = np.random.default_rng(seed).permutation(len(self))
        if self.labels is None:
            return order
        place = np.empty(len(self))
        labels = self.labels[order]
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            place[members] = (np.arange(len(members)) + 0.5) / len(members)
        return order[np.argsort(place, kind="stable")]


def load_images(
    path: Path, *, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> ImageSet:
    """An .npz file with `images` uint8 [N, H, W, 3] and perhaps `labels` [N] from 0 on.

    Raises ConfigError that says what is wrong with the file.
    """
    arrays = _arrays(path)
    if "images" not in arrays:
        raise ConfigError(f"{path}: it has no array called images, only {_names(arrays)}")
    images = arrays["images"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise ConfigError(
            f"{path}: images is {images.dtype} {list(images.shape)}; it must be uint8 [N, H, W, 3]"
        )
    if images.shape[1] != images.shape[2]:
        raise ConfigError(f"{path}: pictures of {images.shape[1:3]}; they must be square")
    labels = arrays.get("labels")
    if labels is not None:
        labels = _labels(labels, len(images), path)
    return ImageSet(images, labels, mean, std)


def load_tokens(path: Path) -> NDArray[np.int64]:
    """An .npz file with `tokens`, ids [N, T] of like windows; raises ConfigError."""
    arrays = _arrays(path)
    tokens = arrays.get("tokens")
    if tokens is None:
        raise ConfigError(f"{path}: it has no array called tokens, only {_names(arrays)}")
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer) or not tokens.size:
        raise ConfigError(f"{path}: tokens is {tokens.dtype} {list(tokens.shape)}; give ids [N, T]")
    if tokens.min() < 0:
        raise ConfigError(f"{path}: tokens has the id {tokens.min()}; ids start at 0")
    return tokens.astype(np.int64)


def _labels(labels: NDArray[Any], count: int, path: Path) -> NDArray[np.int64]:
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(
            f"{path}: labels is {labels.dtype} {list(labels.shape)}; "
            f"it must be one whole number a picture, [{count}]"
        )
    if labels.min() < 0:
        raise ConfigError(f"{path}: labels has {labels.min()}; labels start at 0")
    return labels.astype(np.int64)


def _arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    if not path.is_file():
        raise ConfigError(f"--data {path}: no such file")
    try:
        with path.open("rb") as handle:
            loaded = np.load(handle, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ConfigError(f"{path}: not an .npz file of plain arrays: {error}") from error
    raise ConfigError(f"{path}: not an .npz file but a single array; write it with numpy.savez")


def _names(arrays: Mapping[str, object]) -> str:
    return ", ".join(arrays) or "nothing"
