"""Pictures from .npz files: normalisation, stratified and seeded draws, clear errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.data import ImageSet, load_images, load_tokens
from nas.errors import ConfigError


def _images(count: int, side: int = 4) -> np.ndarray:
    """Picture k has the colour k everywhere."""
    return np.repeat(np.arange(count, dtype=np.uint8), side * side * 3).reshape(-1, side, side, 3)


def _save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_pictures_are_normalised_and_labels_follow(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.npz", images=_images(6), labels=np.array([0, 1, 2, 0, 1, 2]))

    found = load_images(path, mean=(0.5, 0.0, 0.0), std=(2.0, 1.0, 1.0))
    pictures, labels = found.draw(6, seed=3)

    assert pictures.shape == (6, 3, 4, 4)
    shades = (pictures[:, 1, 0, 0] * 255).round().long()
    assert sorted(shades.tolist()) == list(range(6))
    assert labels is not None
    assert torch.equal(labels, shades % 3)
    torch.testing.assert_close(pictures[:, 0, 0, 0], (shades / 255 - 0.5) / 2)
    assert (found.side, found.classes) == (4, 3)


def test_every_draw_has_each_class_in_its_share() -> None:
    labels = np.array([0] * 30 + [1] * 60 + [2] * 10)
    found = ImageSet(_images(100), labels)

    for count in (10, 20, 50):
        _, drawn = found.draw(count, seed=1)
        assert drawn is not None
        assert np.abs(np.bincount(drawn) - np.array([0.3, 0.6, 0.1]) * count).max() <= 1


def test_equal_seeds_draw_the_same() -> None:
    found = ImageSet(_images(50), None)

    first, second, third = (found.draw(10, seed)[0] for seed in (1, 1, 2))

    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_split_keeps_every_picture_once() -> None:
    found = ImageSet(_images(40), np.arange(40) % 4)

    rest, held = found.split(0.1, seed=0)

    shades = [set(part.images[:, 0, 0, 0].tolist()) for part in (rest, held)]
    assert (len(rest), len(held)) == (36, 4)
    assert shades[0] | shades[1] == set(range(40))
    assert not shades[0] & shades[1]
    assert held.labels is not None
    assert sorted(held.labels) == [0, 1, 2, 3]


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="--batch 9: the data has 8 pictures only"):
        ImageSet(_images(8), None).draw(9, 0)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": _images(2)}, "no array called images, only pictures"),
        ({"images": _images(2).astype(np.float32)}, "images is float32"),
        ({"images": _images(2)[:, 0]}, r"images is uint8 \[2, 4, 3\]"),
        ({"images": _images(2)[:, :2]}, "must be square"),
        ({"images": _images(2), "labels": np.zeros(3, int)}, r"one whole number a picture, \[2\]"),
        ({"images": _images(2), "labels": np.zeros(2)}, "labels is float64"),
        ({"images": _images(2), "labels": np.array([0, -1])}, "labels has -1"),
        ({"images": np.array([None])}, "not an .npz file of plain arrays"),
    ],
)
def test_files_that_are_not_pictures_are_refused(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_images(_save(tmp_path / "a.npz", **arrays))


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    torn = tmp_path / "a.npz"
    torn.write_bytes(b"PK\x03\x04")
    single = tmp_path / "b.npz"
    with single.open("wb") as handle:
        np.save(handle, _images(2))

    for path in (torn, single):
        with pytest.raises(ConfigError, match=r"not an .npz file"):
            load_images(path)
    with pytest.raises(ConfigError, match="no such file"):
        load_images(tmp_path / "none.npz")


def test_tokens_are_read_and_checked(tmp_path: Path) -> None:
    good = _save(tmp_path / "a.npz", tokens=np.arange(6, dtype=np.int32).reshape(2, 3))

    assert load_tokens(good).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ConfigError, match=r"give ids \[N, T\]"):
        load_tokens(_save(tmp_path / "b.npz", tokens=np.zeros((2, 3))))
    with pytest.raises(ConfigError, match="ids start at 0"):
        load_tokens(_save(tmp_path / "c.npz", tokens=np.array([[-1]])))
    with pytest.raises(ConfigError, match="no array called tokens"):
        load_tokens(_save(tmp_path / "d.npz", images=_images(1)))
