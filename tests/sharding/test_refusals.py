"""What several processes cannot distil is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nas.config import RunConfig
from nas.errors import CapabilityError
from nas.ir import ChainShape
from nas.passes import PassContext
from nas.passes.distill import distill
from nas.run import RunDirectory
from nas.sharding import Alone
from tests.chains import tiny_shape
from tests.encoders import encoder_shape
from tests.pictures import picture_shape


class _OneOfTwo(Alone):
    size = 2


@pytest.mark.parametrize("shape", [encoder_shape(masked_head=True), picture_shape()])
def test_masked_encoders_and_pictures_are_refused_by_name(
    shape: ChainShape, small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    context = _context(shape, small_config(), tmp_path)
    with pytest.raises(CapabilityError, match=f"this {shape.family} is distilled in one"):
        distill(context, {}, {})


@pytest.mark.parametrize("shape", [tiny_shape(), encoder_shape()])
def test_decoders_and_encoders_of_embeddings_are_not(
    shape: ChainShape, small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    context = _context(shape, small_config(), tmp_path)
    context.__dict__["teacher"] = None  # the first thing that is asked for
    with pytest.raises(AttributeError):
        distill(context, {}, {})


def _context(shape: ChainShape, config: RunConfig, folder: Path) -> PassContext:
    context = PassContext(config, RunDirectory.create(folder / "run"), ranks=_OneOfTwo())
    context.__dict__["shape"] = shape
    return context
