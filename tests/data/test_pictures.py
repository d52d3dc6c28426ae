"""Pictures as data: read, cut, moved and mirrored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.config import DataConfig, ImageFile, PythonDocsText
from nas.data import augmented, labelled_images, tokens_a_sample
from nas.data._pictures import load_pictures
from nas.errors import ConfigError
from tests.pictures import picture_shape, pictures, write_pictures


def _config(path: Path, **settings: object) -> DataConfig:
    return DataConfig.model_validate(
        {"sources": [{"kind": "images", "path": str(path)}], "score_sequences": 5, **settings}
    )


def test_every_picture_is_in_one_part(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "a.npz", 50)
    train, score, evaluate, split = load_pictures(_config(path), picture_shape(), seed=0)
    assert (len(train), len(score), len(evaluate)) == (40, 5, 5)
    assert tuple(train.shape[1:]) == (3, 8, 8)
    assert train.dtype == torch.uint8
    together = torch.cat((train, score, evaluate)).flatten(1).tolist()
    stored = pictures(50).flatten(1).tolist()
    assert sorted(together) == sorted(stored)
    assert together != stored, "they are shuffled"
    assert split.sources[0].documents == 50
    fewer = load_pictures(_config(path, train_tokens=7), picture_shape(), seed=0)[0]
    assert torch.equal(fewer, train[:7])


def test_a_picture_counts_as_one_token() -> None:
    assert tokens_a_sample(pictures(2)) == 1
    assert tokens_a_sample(torch.zeros(2, 17)) == 17


def test_pictures_are_moved_by_up_to_four_pixels_and_mirrored() -> None:
    batch = pictures(200)
    moved = augmented(batch, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(batch, (4, 4, 4, 4))
    seen = set()
    for picture, source in zip(moved, padded, strict=True):
        found = [
            (down, right, mirror)
            for down in range(9)
            for right in range(9)
            for mirror in (False, True)
            if torch.equal(picture, _cut(source, down, right, mirror))
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len({(down, right) for down, right, _ in seen}) > 50
    assert {mirror for *_, mirror in seen} == {False, True}
    again = augmented(batch, torch.Generator().manual_seed(0))
    assert torch.equal(moved, again)


def _cut(padded: torch.Tensor, down: int, right: int, mirror: bool) -> torch.Tensor:
    cut = padded[:, down : down + 8, right : right + 8]
    return cut.flip(-1) if mirror else cut


def test_texts_are_left_as_they_are() -> None:
    ids = torch.arange(12).reshape(3, 4)
    assert augmented(ids, torch.Generator()) is ids


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    shape = picture_shape()
    with pytest.raises(ConfigError, match="reads pictures, not python_docs"):
        load_pictures(DataConfig(sources=(PythonDocsText(),)), shape, 0)
    wide = write_pictures(tmp_path / "wide.npz", 4, side=9)
    with pytest.raises(ConfigError, match="9 x 9, the teacher takes 8 x 8"):
        load_pictures(_config(wide), shape, 0)
    with pytest.raises(ConfigError, match="no such file"):
        load_pictures(DataConfig(sources=(ImageFile(path=tmp_path / "none.npz"),)), shape, 0)
    with pytest.raises(ConfigError, match="no labels"):
        labelled_images(write_pictures(tmp_path / "b.npz", 4, labels=False), shape)
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 5]))
    with pytest.raises(ConfigError, match="labels up to 5, the teacher knows 5"):
        labelled_images(tmp_path / "c.npz", shape)


def test_a_transformer_takes_its_own_side_alone(tmp_path: Path) -> None:
    from tests.vits import vit_shape

    path = write_pictures(tmp_path / "a.npz", 50, side=16)
    assert len(load_pictures(_config(path), vit_shape(), seed=0)[0]) == 40
    with pytest.raises(ConfigError, match=r"24 x 24, the teacher takes 16 x 16; resize them, its"):
        load_pictures(_config(write_pictures(path, 50, side=24)), vit_shape(), seed=0)
