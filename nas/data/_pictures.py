"""From the data section of the configuration to pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.config import DataConfig, ImageFile
from nas.data._images import ImageSet, load_images
from nas.data._split import Part, SourceRecord, Split, cut
from nas.errors import ConfigError
from nas.ir import ConvShape, PictureShape
from nas.run import file_digest


def load_pictures(
    config: DataConfig, shape: PictureShape, seed: int
) -> tuple[Tensor, Tensor, Tensor, Split]:
    """Pictures to train, score and evaluate on, uint8 [n, 3, side, side], and the record of them:
    all pictures of all sources are shuffled and cut as a stream of tokens is.

    Raises ConfigError for sources of text, and for files that are missing or do not fit.
    """
    images, records = [], []
    for source in config.sources:
        if not isinstance(source, ImageFile):
            raise ConfigError(
                f"data.sources: a {shape.family} reads pictures, not {source.kind}; give "
                "{kind: images, path: FILE.npz}"
            )
        found = load_images(source.path)
        require_side(found, shape, str(source.path))
        images.append(found.images)
        records.append(
            SourceRecord(
                name=source.path.name,
                sha256=file_digest(source.path),
                documents=len(found),
                tokens=len(found),
            )
        )
    whole = np.concatenate(images)
    split = cut(len(whole), tuple(records), config.model_copy(update={"sequence_length": 1}), seed)
    order = np.random.default_rng(seed).permutation(len(whole))

    def part(which: Part) -> Tensor:
        rows = order[which.start : which.stop][: which.sequences]
        return as_bytes(whole[rows])

    return part(split.train), part(split.score), part(split.evaluate), split


def as_bytes(images: np.ndarray) -> Tensor:
    """Pictures [n, h, w, 3] as networks take them [n, 3, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def require_side(images: ImageSet, shape: PictureShape, where: str) -> None:
    """Raise ConfigError for pictures that the network does not take."""
    if images.side != shape.image_side:
        way = "or set teacher.image.side to what the teacher was trained with"
        if not isinstance(shape, ConvShape):
            way = "its positions are for no other size"
        raise ConfigError(
            f"{where}: pictures of {images.side} x {images.side}, the teacher takes "
            f"{shape.image_side} x {shape.image_side}; resize them, {way}"
        )


def labelled_images(path: Path, shape: PictureShape) -> ImageSet:
    """Pictures with their labels, for evaluation; raises ConfigError."""
    images = load_images(path)
    require_side(images, shape, str(path))
    if images.labels is None:
        raise ConfigError(f"{path}: it has no labels, which accuracy needs")
    if images.classes is not None and images.classes > shape.classes:
        raise ConfigError(
            f"{path}: labels up to {images.classes - 1}, the teacher knows {shape.classes} classes"
        )
    return images
