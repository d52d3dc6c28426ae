"""The packages that nas uses, and the command that adds each."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True)
class Package:
    """`module` is what is imported; one of `distributions` provides it; `extra` of nas adds it,
    unless it is installed `alone`."""

    module: str
    distributions: tuple[str, ...]
    purpose: str
    extra: str | None = None
    alone: bool = False

    @property
    def version(self) -> str | None:
        """The installed version; None where the module cannot be found."""
        if importlib.util.find_spec(self.module) is None:
            return None
        for name in self.distributions:
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return "unknown version"

    @property
    def command(self) -> str:
        """Adds the package."""
        if self.alone:
            return f"pip install {self.distributions[0]}"
        return f"pip install -e '.{f'[{self.extra}]' if self.extra else ''}'"


CORE = (
    Package("torch", ("torch",), "builds, scores and distills"),
    Package("transformers", ("transformers",), "reads teachers"),
    Package("safetensors", ("safetensors",), "stores weights"),
    Package("pulp", ("pulp",), "states the selection problem"),
    Package("highspy", ("highspy",), "solves it (HiGHS; CBC without it)"),
    Package("pyarrow", ("pyarrow",), "stores scores"),
)
OPTIONAL = (
    Package("onnx", ("onnx",), "exports ONNX files", "cpu"),
    Package("onnxscript", ("onnxscript",), "exports ONNX files", "cpu"),
    Package(
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu"),
        "measures and checks on this machine",
        "cpu",
    ),
    Package("gguf", ("gguf",), "reads GGUF teachers", "gguf"),
    Package("accelerate", ("accelerate",), "reads GGUF teachers", "gguf"),
    Package("llama_cpp", ("llama-cpp-python",), "reads and runs GGUF files", alone=True),
    Package("tensorrt_rtx", ("tensorrt-rtx-cu12",), "builds TensorRT-RTX engines", "rtx"),
    Package("tensorrt", ("tensorrt",), "builds TensorRT engines", "tensorrt"),
    Package("onnxruntime_genai", ("onnxruntime-genai",), "serves the ONNX folder", "genai"),
    Package("datasets", ("datasets",), "text from named datasets", "datasets"),
    Package("lm_eval", ("lm_eval",), "tasks of lm-evaluation-harness", "eval"),
    Package("ray", ("ray",), "spreads work over machines", "ray"),
)


def package(module: str) -> Package:
    """The entry of a module."""
    return next(p for p in (*CORE, *OPTIONAL) if p.module == module)
