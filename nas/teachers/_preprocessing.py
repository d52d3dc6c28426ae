"""How a transformer over pictures takes them, by its files and by the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas._documents import brief, load_json
from nas.config import ImageConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import VisionShape

PREPROCESSOR = "preprocessor_config.json"
_CARRIED = (
    "image_processor_type",
    "do_convert_rgb",
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "crop_pct",
)
_JSON = (bool, int, float, str, list, dict)
_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Pillow's numbers."""
_BYTE = 1 / 255
_MOST = 1e6
"""Numbers beyond any picture's are those of a torn file."""


def with_preprocessor(shape: VisionShape, folder: Path) -> VisionShape:
    """`shape` with the mean and deviation of transformers' preprocessor_config.json, if there.

    Raises ConfigError for a torn file, CapabilityError where pixels are not taken from 0 to 1.
    """
    path, data = folder / PREPROCESSOR, _read(folder)
    if data is None:
        return shape
    scaled = data.get("do_rescale", True) is True
    factor = data.get("rescale_factor", _BYTE)
    known = isinstance(factor, (int, float)) and abs(factor) < _MOST
    if not scaled or not known or not abs(factor / _BYTE - 1) < 1e-3:
        raise CapabilityError(
            f"{path}: pixels are scaled by {brief(factor) if scaled else 1}; nas takes them from 0 "
            f"to 1 (rescale_factor 1/255), and would need another scale"
        )
    if data.get("do_normalize", True) is False:
        return _normalised(shape, (0.0,) * 3, (1.0,) * 3)
    mean, std = data.get("image_mean"), data.get("image_std")
    if mean is None and std is None:
        return shape
    return _normalised(shape, channels(mean, path), channels(std, path))


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / PREPROCESSOR
    if not path.is_file():
        return None
    try:
        data = load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}; fetch it again") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object; fetch it again")
    return data


def read_preprocessing(folder: Path) -> dict[str, Any]:
    """What transformers' preprocessor_config.json says of resizing and cropping; no code of the
    folder is named. Empty without the file; raises ConfigError for a torn one."""
    data = _read(folder) or {}
    found = {key: data[key] for key in _CARRIED if isinstance(data.get(key), _JSON)}
    earlier = data.get("feature_extractor_type")
    if isinstance(earlier, str):
        kind = earlier.replace("FeatureExtractor", "ImageProcessor")
        found.setdefault("image_processor_type", kind)
    return found


def timm_preprocessing(given: Mapping[str, Any], side: int, where: Path) -> dict[str, Any]:
    """How timm evaluates by its `pretrained_cfg`, in transformers' keys: the shorter side (both,
    where `crop_mode` is squash) to `side` / `crop_pct`, then the middle. What it leaves out is as
    in timm. Raises ConfigError."""
    share, mode = given.get("crop_pct", 0.875), given.get("interpolation", "bicubic")
    if not isinstance(share, (int, float)) or not 0.01 <= share <= 1:
        raise ConfigError(f"{where}: crop_pct {brief(share)} is no share; fetch it again")
    resized = math.floor(side / share)
    squash = given.get("crop_mode") == "squash"
    return {
        # transformers' plainest processor that crops, and that resizes by the shorter side
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": _square(resized) if squash else {"shortest_edge": resized},
        "resample": _RESAMPLE.get(mode, 3) if isinstance(mode, str) else 3,
        "do_center_crop": True,
        "crop_size": _square(side),
    }


def class_names(given: object, classes: int) -> tuple[str, ...]:
    """Names of all classes from a JSON list, or an object by number; empty where some lack."""
    if isinstance(given, dict):
        given = [given.get(str(i)) for i in range(classes)] if len(given) == classes else []
    names = given if isinstance(given, list) else []
    whole = len(names) == classes and all(isinstance(name, str) for name in names)
    return tuple(names) if whole else ()


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def with_image(shape: VisionShape, image: ImageConfig | None, where: str) -> VisionShape:
    """`shape` with what the section `teacher.image` says of mean and deviation.

    Raises ConfigError for another side: the positions are those of the teacher's own.
    """
    if image is None:
        return shape
    if image.side is not None and image.side != shape.image_side:
        raise ConfigError(
            f"teacher.image.side: {image.side}, but {where} has positions for pictures of "
            f"{shape.image_side} x {shape.image_side}; leave it out"
        )
    given = image.model_fields_set
    mean = image.mean if "mean" in given else shape.image_mean
    std = image.std if "std" in given else shape.image_std
    return _normalised(shape, mean, std)


def channels(value: object, where: object) -> tuple[float, float, float]:
    """Three numbers, one a channel; raises ConfigError."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    numbers = [float(v) for v in values if isinstance(v, (int, float)) and abs(v) < _MOST]
    if len(numbers) != 3 or len(values) != 3:
        raise ConfigError(f"{where}: {brief(value)} is not one number a channel; fetch it again")
    return numbers[0], numbers[1], numbers[2]


def _normalised(shape: VisionShape, mean: Any, std: Any) -> VisionShape:
    if not all(s > 0 for s in std):
        raise ConfigError(f"the pictures' deviation {list(std)} is not positive; fetch it again")
    return shape.model_copy(update={"image_mean": tuple(mean), "image_std": tuple(std)})
