"""ONNX Runtime's execution providers: their names, their options, and what has to be there.

    provider_options("tensorrt", bounds, cache)     # what a session is opened with
    write_providers(folder, shapes)                 # providers.json beside an exported model

TensorRT's providers build engines when a session is opened, and again whenever an input leaves the
range that they know. So they are given ranges for every input, and a folder to keep engines in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nas._imports import require
from nas._scratch import sibling
from nas.errors import ArtifactError, CapabilityError, PassError

Provider = Literal["cpu", "cuda", "tensorrt", "tensorrt_rtx"]
Bounds = Mapping[str, Sequence[Sequence[int]]]
"""Input -> least, tuned-for and largest shape."""

PROVIDERS: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt_rtx": "NvTensorRTRTXExecutionProvider",
}
RUNTIMES: dict[Provider, str] = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-cuda",
    "tensorrt": "onnxruntime-tensorrt",
    "tensorrt_rtx": "onnxruntime-tensorrt-rtx",
}
"""The runtime in the conditions of a latency."""

_ADD: dict[str, str] = {
    "CUDAExecutionProvider": "pip uninstall onnxruntime, then pip install onnxruntime-gpu",
    "TensorrtExecutionProvider": (
        "pip uninstall onnxruntime, then pip install onnxruntime-gpu tensorrt"
    ),
    "NvTensorRTRTXExecutionProvider": "install an ONNX Runtime that was built with TensorRT-RTX",
}
FILE = "providers.json"


def provider_options(
    provider: Provider, bounds: Bounds | None = None, cache: Path | None = None
) -> dict[str, str]:
    """Options of a provider as ONNX Runtime takes them, text alone.

    Precision is not among them: it lies in the file. `cache`: where engines are kept."""
    if provider == "cpu":
        return {}
    if provider == "cuda":
        # Prompts come in any length: an arena in powers of two would double the cache's memory.
        return {"device_id": "0", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}
    prefix = "trt" if provider == "tensorrt" else "nv"
    options = {"device_id": "0"}
    if cache is not None and provider == "tensorrt":
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
        options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache)}
    elif cache is not None:
        options["nv_runtime_cache_path"] = str(cache)
    for k, which in enumerate(("min", "opt", "max")):
        if bounds:
            shapes = {name: "x".join(map(str, three[k])) for name, three in bounds.items()}
            text = ",".join(f"{name}:{dims}" for name, dims in shapes.items())
            options[f"{prefix}_profile_{which}_shapes"] = text
    return options


def provider_chain(
    provider: Provider, bounds: Bounds | None = None, cache: Path | None = None
) -> list[tuple[str, dict[str, str]]]:
    """A provider and those that take what it leaves, for `InferenceSession(providers=...)`."""
    behind: dict[Provider, tuple[Provider, ...]] = {
        "cpu": (),
        "cuda": ("cpu",),
        "tensorrt": ("cuda", "cpu"),
        "tensorrt_rtx": ("cpu",),
    }
    chain = [(PROVIDERS[provider], provider_options(provider, bounds, cache))]
    return chain + [(PROVIDERS[other], provider_options(other)) for other in behind[provider]]


def require_providers(ort: Any, wanted: Sequence[str], there: Sequence[str]) -> None:
    """Raise CapabilityError, with the command that adds it, where a provider is not `there`."""
    missing = [name for name in wanted if name not in there]
    if missing:
        raise CapabilityError(
            f"onnxruntime {ort.__version__} has no {', '.join(missing)} here, only "
            f"{', '.join(there)}; for it: {_ADD.get(missing[0], 'install a build that has it')}"
        )


def require_provider(provider: Provider) -> None:
    """The same by our name for it; raises CapabilityError too where ONNX Runtime is missing."""
    ort = require("onnxruntime", extra="cpu" if provider == "cpu" else "gpu")
    require_providers(ort, [PROVIDERS[provider]], ort.get_available_providers())


def covering(every: Sequence[Bounds]) -> Bounds:
    """One range an input that holds all given ones, tuned as the first is: a session of ONNX
    Runtime serves prompts and single tokens alike."""
    return {
        name: [
            [min(sizes) for sizes in zip(*(one[name][0] for one in every), strict=True)],
            list(tuned),
            [max(sizes) for sizes in zip(*(one[name][2] for one in every), strict=True)],
        ]
        for name, (_, tuned, _) in every[0].items()
    }


def input_bounds(path: Path, ranges: Mapping[str, Sequence[int]]) -> Bounds:
    """The range of each input of an ONNX file.

    `ranges`: (least, tuned for, most) of each dimension that the file names. Raises PassError for a
    dimension that is not among them."""
    onnx = require("onnx", extra="cpu")
    graph = onnx.load(str(path), load_external_data=False).graph
    found = {}
    for node in graph.input:
        sizes = []
        for dim in node.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param not in ranges:
                raise PassError(f"{path}: input {node.name}: no range for {dim.dim_param}")
            sizes.append(ranges[dim.dim_param] if dim.dim_param else [dim.dim_value] * 3)
        found[node.name] = [list(column) for column in zip(*sizes, strict=True)]
    return found


def write_providers(folder: Path, bounds: Bounds) -> Path:
    """Write `folder/providers.json`: for each provider the list that `InferenceSession` takes.

    `bounds`: as `covering` puts them together. Engines are kept in `engine_cache` beside the model,
    so a session is to be opened from within the folder, or with `read_providers`. Raises PassError
    where the disk is full."""
    path = folder / FILE
    temporary = sibling(path)
    chains = {name: provider_chain(name, bounds, Path("engine_cache")) for name in PROVIDERS}
    try:
        temporary.write_text(json.dumps(chains, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PassError(f"cannot write {path}: {error.strerror or error}; free space") from error
    return path


def read_providers(folder: Path, provider: Provider) -> list[tuple[str, dict[str, str]]]:
    """The list for `InferenceSession(providers=...)` of an exported folder, its cache in place.

    Raises ArtifactError for a folder without one, or with one that is torn."""
    path = folder / FILE
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))[provider]
        chain = [(str(name), {k: str(v) for k, v in given.items()}) for name, given in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: no list of providers: {error}; export it again") from error
    return [(name, _beside(folder, options)) for name, options in chain]


def _beside(folder: Path, options: dict[str, str]) -> dict[str, str]:
    return {k: str(folder / v) if k.endswith("_cache_path") else v for k, v in options.items()}
