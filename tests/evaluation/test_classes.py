"""Classifiers of pictures: figures of what they say."""

from __future__ import annotations

import math

import pytest
import torch

from nas.evaluation import class_quality
from tests.pictures import pictures, tiny_classifier


def test_kl_and_its_error_over_pictures() -> None:
    teacher, student, shown = tiny_classifier(), tiny_classifier(seed=1), pictures(5)

    found = class_quality(teacher, {"s": student}, shown)

    kl = torch.tensor(found["s"].kl)
    assert found["s"].kl_mean == pytest.approx(float(kl.mean()))
    assert found["s"].kl_standard_error == pytest.approx(float(kl.std() / math.sqrt(5)), rel=1e-4)
    assert (found["teacher"].kl_mean, found["teacher"].agreement) == (0, 1)


def test_one_picture_has_no_standard_error() -> None:
    teacher = tiny_classifier()
    assert class_quality(teacher, {}, pictures(1))["teacher"].kl_standard_error is None
