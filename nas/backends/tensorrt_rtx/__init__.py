"""TensorRT-RTX engines, built on a CPU for a named GPU; running them needs that GPU."""

from nas.backends.tensorrt_rtx._artifact import EngineArtifact
from nas.backends.tensorrt_rtx._builder import build_engine, build_engines
from nas.backends.tensorrt_rtx._shapes import EngineShapes, PictureShapes, Shapes, TextShapes
from nas.backends.tensorrt_rtx._support import require_sm, supported_sms

__all__ = [
    "EngineArtifact",
    "EngineShapes",
    "PictureShapes",
    "Shapes",
    "TextShapes",
    "build_engine",
    "build_engines",
    "require_sm",
    "supported_sms",
]
