"""Engines for NVIDIA's GPUs: one adapter for TensorRT-RTX, which builds on a CPU for named GPUs,
and for TensorRT, which builds on the GPU itself.

    create_backend("tensorrt_rtx").sms()                        # what can be built here
    build_engine(create_backend("tensorrt_rtx"), path, folder, sms=[89], dtype="float16", ...)
"""

from nas.backends.tensorrt._artifact import EngineArtifact
from nas.backends.tensorrt._base import EngineBackend
from nas.backends.tensorrt._builder import build_engine
from nas.backends.tensorrt._rtx import TensorRtRtx
from nas.backends.tensorrt._shapes import EngineShapes, PictureShapes, Shapes, TextShapes
from nas.backends.tensorrt._tensorrt import TensorRt
from nas.errors import ConfigError

_BACKENDS: dict[str, type[EngineBackend]] = {b.name: b for b in (TensorRtRtx, TensorRt)}
ENGINE_FORMATS = tuple(_BACKENDS)
"""What `export.formats` may ask for."""


def create_backend(name: str) -> EngineBackend:
    """Raises ConfigError for an unknown name."""
    if name not in _BACKENDS:
        raise ConfigError(f"no engines are built by {name!r}; there are {', '.join(_BACKENDS)}")
    return _BACKENDS[name]()


__all__ = [
    "ENGINE_FORMATS",
    "EngineArtifact",
    "EngineBackend",
    "EngineShapes",
    "PictureShapes",
    "Shapes",
    "TensorRt",
    "TensorRtRtx",
    "TextShapes",
    "build_engine",
    "create_backend",
]
