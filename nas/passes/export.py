"""Export: the student as files that a runtime loads, each behind a gate.

Teacher and baselines are exported to ONNX too, by the same code: a speed-up is only as honest as
what it is measured against.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from nas.chain import DecoderChain
from nas.ir import Architecture
from nas.passes._context import PassContext
from nas.passes.students import distilled
from nas.run import content_key

_HUGGINGFACE_TOLERANCE = 1e-4
"""Largest difference of float32 logits; both sides are torch."""
_ONNX_TOLERANCE = 1e-3
"""The same for another runtime, which sums in another order."""

Write = Callable[[PassContext, str, DecoderChain], tuple[Path, dict[str, Any]]]


def export(
    context: PassContext, architectures: Mapping[str, Architecture], keys: Mapping[str, str]
) -> None:
    """Write every file that the configuration asks for. A failed gate raises PassError."""
    formats = context.config.export.formats
    if "huggingface" in formats:
        _unit(context, "huggingface", "student", keys["student"], architectures, _huggingface)
    if "onnx" in formats:
        every = {"teacher": Architecture(), **architectures}
        for name in every:
            key = keys.get(name, context.teacher_key)
            _unit(context, "onnx", name, key, every, _onnx)
    if "tensorrt_rtx" in formats:
        _unit(context, "tensorrt_rtx", "student", keys["student"], architectures, _engines)


def onnx_path(context: PassContext, name: str) -> Path:
    """The ONNX file of a model of the run."""
    return context.run.path("onnx", name, "model.onnx")


def _unit(
    context: PassContext,
    kind: str,
    name: str,
    source_key: str,
    architectures: Mapping[str, Architecture],
    write: Write,
) -> None:
    unit = f"export/{kind}-{name}"
    key = content_key("export", kind, source_key, context.config.export, context.config.target)
    if context.run.fetch(unit, key) is not None:
        return
    context.progress.say(f"exporting {name} to {kind}")
    started = time.perf_counter()
    chain = _chain(context, name, architectures[name])
    folder, record = write(context, name, chain)
    relative = str(folder.relative_to(context.run.root))
    data = {"folder": relative, **record}
    context.run.adopt(unit, key, [relative], data, time.perf_counter() - started)


def _chain(context: PassContext, name: str, architecture: Architecture) -> DecoderChain:
    if name == "teacher":
        return context.teacher.chain
    return distilled(context, name, architecture)


def _gate_ids(context: PassContext) -> torch.Tensor:
    """Two short windows of the held-out text."""
    return context.text.evaluate[:2, :48]


def _huggingface(
    context: PassContext, name: str, chain: DecoderChain
) -> tuple[Path, dict[str, Any]]:
    from nas.backends.huggingface import check_huggingface, export_huggingface

    folder = context.run.path("student")
    title = context.config.name
    artifact = export_huggingface(chain, context.teacher.tokenizer, folder, name=title)
    tokens = context.config.export.greedy_tokens
    report = check_huggingface(
        artifact,
        chain,
        _gate_ids(context),
        greedy_tokens=tokens,
        tolerance=_HUGGINGFACE_TOLERANCE,
    )
    return folder, {"gates": _gates(report.max_logits_difference, _HUGGINGFACE_TOLERANCE, tokens)}


def _onnx(context: PassContext, name: str, chain: DecoderChain) -> tuple[Path, dict[str, Any]]:
    from nas.backends.onnx import check_onnx, export_onnx, write_genai_config

    folder = context.run.path("onnx", name)
    shutil.rmtree(folder, ignore_errors=True)
    artifact = export_onnx(chain, folder, dtype="float32")
    tokens = context.config.export.greedy_tokens
    report = check_onnx(
        artifact, chain, _gate_ids(context), greedy_tokens=tokens, tolerance=_ONNX_TOLERANCE
    )
    write_genai_config(chain.shape, folder)
    context.teacher.tokenizer.save_pretrained(str(folder))
    return folder, {"gates": _gates(report.max_logits_difference, _ONNX_TOLERANCE, tokens)}


def _gates(difference: float, limit: float, tokens: int) -> list[dict[str, Any]]:
    return [
        {"name": "logits", "passed": True, "value": difference, "limit": limit},
        {"name": "greedy", "passed": True, "detail": f"{tokens} tokens through the cache equal"},
    ]


def _engines(context: PassContext, name: str, chain: DecoderChain) -> tuple[Path, dict[str, Any]]:
    from hardware_profiles import load_profile
    from nas.backends.onnx import export_onnx
    from nas.backends.tensorrt_rtx import EngineShapes, build_engine

    config, target = context.config.export, context.config.target
    dtype = config.engine_dtype
    source = context.run.path("onnx", f"{name}-{dtype}")
    shutil.rmtree(source, ignore_errors=True)
    artifact = export_onnx(chain, source, dtype=dtype)
    sms = config.sm or tuple(load_profile(target.hardware).tensorrt_rtx_sms)
    shapes = EngineShapes(
        batch=target.batch,
        prompt_tokens=target.prompt_tokens,
        max_tokens=target.prompt_tokens + target.output_tokens,
    )
    folder = context.run.path("engines")
    engines = []
    for sm in sms:
        engine = build_engine(
            artifact.path, folder, sm=sm, dtype=dtype, shapes=shapes, name=context.config.name
        )
        engines.append(str(engine.path.relative_to(context.run.root)))
    return folder, {"engines": engines, "gates": []}
