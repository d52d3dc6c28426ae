"""Export: the student as files that a runtime loads, each behind a gate.

Teacher and baselines are exported to ONNX too, by the same code: a speed-up is only as honest as
what it is measured against. Files are written beside their place, checked there, and take it only
when the gate has passed: a failed export leaves the earlier files as they were.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nas.chain import Chain, ConvChain, DecoderChain, EncoderChain, PictureChain, VisionChain
from nas.errors import ConfigError
from nas.ir import Architecture, as_text
from nas.passes._context import PassContext
from nas.passes.students import distilled
from nas.run import content_key

if TYPE_CHECKING:
    from nas.backends.tensorrt_rtx import Shapes

_HUGGINGFACE_TOLERANCE = 1e-4
"""Largest difference of float32 logits; both sides are torch."""
_ONNX_TOLERANCE = 1e-3
"""The same for another runtime, which sums in another order."""
_LOW_PRECISION_TOLERANCE = 1.0
"""The same for a network computed in 16 bits, against float32: it finds a wrong graph, an overflow
or a lost mask, not a rounding."""

Write = Callable[[PassContext, Chain, Path], dict[str, Any]]


def export(
    context: PassContext, architectures: Mapping[str, Architecture], keys: Mapping[str, str]
) -> None:
    """Write every file that the configuration asks for. A failed gate raises PassError."""
    config, target = context.config.export, context.config.target
    every = {"teacher": Architecture(), **architectures}
    source = {"teacher": context.teacher_key, **keys}
    gate = config.greedy_tokens
    if "tensorrt_rtx" in config.formats:
        compute_capabilities(context)  # refuse before anything is written
    if "huggingface" in config.formats:
        key = content_key("huggingface", source["student"], gate)
        _unit(context, "huggingface", "student", "student", key, every, _huggingface)
    if "onnx" in config.formats:
        for name in every:
            key = content_key("onnx", source[name], gate)
            _unit(context, "onnx", name, f"onnx/{name}", key, every, _onnx)
    if "tensorrt_rtx" in config.formats:
        sizes = (target.batch, target.prompt_tokens, target.output_tokens)
        sms = compute_capabilities(context)
        key = content_key("tensorrt_rtx", source["student"], gate, config.engine_dtype, sms, sizes)
        _unit(context, "tensorrt_rtx", "student", "engines", key, every, _engines)


def export_units(context: PassContext, names: tuple[str, ...]) -> list[str]:
    """Names of the units that the configuration asks for, in order."""
    formats = context.config.export.formats
    units = ["export/huggingface-student"] if "huggingface" in formats else []
    units += [f"export/onnx-{name}" for name in names] if "onnx" in formats else []
    return units + (["export/tensorrt_rtx-student"] if "tensorrt_rtx" in formats else [])


def onnx_path(context: PassContext, name: str) -> Path:
    """The ONNX file of a model of the run."""
    return context.run.path("onnx", name, "model.onnx")


def _unit(
    context: PassContext,
    kind: str,
    name: str,
    folder: str,
    key: str,
    architectures: Mapping[str, Architecture],
    write: Write,
) -> None:
    unit = f"export/{kind}-{name}"
    if context.run.fetch(unit, key) is not None:
        return
    context.progress.say(f"exporting {name} to {kind}")
    started = time.perf_counter()
    chain = _chain(context, name, architectures[name])
    final = context.run.path(folder)
    unchecked = final.with_name(f".{final.name}.unchecked")
    shutil.rmtree(unchecked, ignore_errors=True)
    try:
        record = write(context, chain, unchecked)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(unchecked, final)
    finally:
        shutil.rmtree(unchecked, ignore_errors=True)
    data = {"folder": folder, **record}
    context.run.adopt(unit, key, [folder], data, time.perf_counter() - started)


def _chain(context: PassContext, name: str, architecture: Architecture) -> Chain:
    """The model in float32, which is what files and gates are made in."""
    teacher = context.teacher.chain
    chain = teacher if name == "teacher" else distilled(context, name, architecture)
    return chain.whole().in_dtype(torch.float32)


def _gate_ids(context: PassContext) -> torch.Tensor:
    """Two short windows of the held-out text, or a few of the held-out pictures."""
    held_out = context.text.evaluate
    return held_out[:2, :48] if held_out.ndim == 2 else held_out[:4]


def _huggingface(context: PassContext, chain: Chain, folder: Path) -> dict[str, Any]:
    from nas.backends.huggingface import check_huggingface, export_huggingface
    from nas.blocks import dequantised

    if isinstance(chain, EncoderChain):
        return _sentence_transformers(context, chain, folder)
    if isinstance(chain, ConvChain):
        return _plain_folder(context, chain, folder)
    if isinstance(chain, VisionChain):
        return _vision_folder(context, chain, folder)
    assert isinstance(chain, DecoderChain)
    chain = dequantised(chain)
    tokens = context.config.export.greedy_tokens
    title = context.config.name
    artifact = export_huggingface(chain, context.teacher.tokenizer, folder, name=title)
    report = check_huggingface(
        artifact,
        chain,
        _gate_ids(context),
        greedy_tokens=tokens,
        tolerance=_HUGGINGFACE_TOLERANCE,
    )
    return {"gates": _gates(report.max_logits_difference, _HUGGINGFACE_TOLERANCE, tokens)}


def _onnx(context: PassContext, chain: Chain, folder: Path) -> dict[str, Any]:
    from nas.backends.onnx import (
        export_classifier,
        export_encoder,
        export_onnx,
        write_genai_config,
    )

    if isinstance(chain, PictureChain):
        artifact = export_classifier(chain, folder, dtype="float32")
        return {"gates": _check_classifier(context, artifact, chain, _ONNX_TOLERANCE)}
    if isinstance(chain, EncoderChain):
        artifact = export_encoder(chain, folder, dtype="float32")
        gates = _check_encoder(context, artifact, chain, _ONNX_TOLERANCE)
        context.teacher.tokenizer.save_pretrained(str(folder))
        return {"gates": gates}
    assert isinstance(chain, DecoderChain)
    artifact = export_onnx(chain, folder, dtype="float32")
    gates = _check_onnx(context, artifact, chain, _ONNX_TOLERANCE)
    write_genai_config(chain.shape, folder)
    context.teacher.tokenizer.save_pretrained(str(folder))
    return {"gates": gates}


def _plain_folder(context: PassContext, chain: ConvChain, folder: Path) -> dict[str, Any]:
    from nas.backends.pictures import check_folder, export_folder

    export_folder(chain, folder, name=context.config.name)
    limit = _HUGGINGFACE_TOLERANCE
    difference = check_folder(folder, chain, _gate_ids(context), tolerance=limit)
    return {"gates": [_gate("logits", difference, limit)]}


def _vision_folder(context: PassContext, chain: VisionChain, folder: Path) -> dict[str, Any]:
    from nas.backends.huggingface import check_vision_folder, export_vision_folder
    from nas.blocks import dequantised

    chain = dequantised(chain)
    export_vision_folder(chain, folder, name=context.config.name)
    limit = _HUGGINGFACE_TOLERANCE
    difference = check_vision_folder(folder, chain, _gate_ids(context), tolerance=limit)
    return {"gates": [_gate(_answers(chain), difference, limit)]}


def _sentence_transformers(
    context: PassContext, chain: EncoderChain, folder: Path
) -> dict[str, Any]:
    from nas.backends.huggingface import check_encoder_folder, export_encoder_folder
    from nas.blocks import dequantised

    chain = dequantised(chain)
    export_encoder_folder(chain, context.teacher.tokenizer, folder, name=context.config.name)
    ids = _gate_ids(context)
    difference = check_encoder_folder(folder, chain, ids, tolerance=_HUGGINGFACE_TOLERANCE)
    return {"gates": [_gate(_answers(chain), difference, _HUGGINGFACE_TOLERANCE)]}


def _answers(chain: EncoderChain | PictureChain) -> str:
    """What the gates of a network that does not generate compare."""
    return "embeddings" if chain.shape.embeds else "logits"


def _engines(context: PassContext, chain: Chain, folder: Path) -> dict[str, Any]:
    """Engines for every compute capability, and the ONNX file that they are built from."""
    from nas.backends.tensorrt_rtx import build_engines

    dtype = context.config.export.engine_dtype
    path, gates = _engine_source(context, chain, folder / f"onnx-{dtype}", dtype)
    built = build_engines(
        path,
        folder,
        sms=compute_capabilities(context),
        dtype=dtype,
        shapes=_engine_shapes(context),
        name=context.config.name,
    )
    return {"engines": [str(one.path.relative_to(folder)) for one in built], "gates": gates}


def _engine_source(
    context: PassContext, chain: Chain, folder: Path, dtype: str
) -> tuple[Path, list[dict[str, Any]]]:
    """The ONNX file in the engine's format, and its gates.

    ONNX Runtime does not run bfloat16 on a CPU, so such a file has none.
    """
    from nas.backends.onnx import export_classifier, export_encoder, export_onnx

    if isinstance(chain, PictureChain):
        artifact = export_classifier(chain, folder, dtype=dtype)
        if dtype == "bfloat16":
            return artifact.path, []
        return artifact.path, _check_classifier(context, artifact, chain, _LOW_PRECISION_TOLERANCE)
    if isinstance(chain, EncoderChain):
        artifact = export_encoder(chain, folder, dtype=dtype)
        if dtype == "bfloat16":
            return artifact.path, []
        return artifact.path, _check_encoder(context, artifact, chain, _LOW_PRECISION_TOLERANCE)
    assert isinstance(chain, DecoderChain)
    artifact = export_onnx(chain, folder, dtype=dtype)
    if dtype == "bfloat16":
        return artifact.path, []
    return artifact.path, _check_onnx(context, artifact, chain, _LOW_PRECISION_TOLERANCE)


def _engine_shapes(context: PassContext) -> Shapes:
    from nas.backends.tensorrt_rtx import EngineShapes, PictureShapes, TextShapes

    target = context.config.target
    if context.shape.reads_pictures:
        return PictureShapes(target.batch)
    if not context.shape.generates:
        return TextShapes(target.batch, target.prompt_tokens, as_text(context.shape).max_positions)
    return EngineShapes(
        batch=target.batch,
        prompt_tokens=target.prompt_tokens,
        max_tokens=target.prompt_tokens + target.output_tokens,
    )


def _check_onnx(
    context: PassContext, artifact: Any, chain: DecoderChain, tolerance: float
) -> list[dict[str, Any]]:
    from nas.backends.onnx import check_onnx

    tokens = context.config.export.greedy_tokens
    report = check_onnx(
        artifact, chain, _gate_ids(context), greedy_tokens=tokens, tolerance=tolerance
    )
    return _gates(report.max_logits_difference, report.limit, tokens)


def _check_classifier(
    context: PassContext, artifact: Any, chain: PictureChain, tolerance: float
) -> list[dict[str, Any]]:
    from nas.backends.onnx import check_classifier, classifier_limit

    pictures = _gate_ids(context)
    difference = check_classifier(artifact, chain, pictures, tolerance=tolerance)
    return [_gate(_answers(chain), difference, classifier_limit(chain, pictures, tolerance))]


def _check_encoder(
    context: PassContext, artifact: Any, chain: EncoderChain, tolerance: float
) -> list[dict[str, Any]]:
    from nas.backends.onnx import check_encoder, encoder_limit

    ids = _gate_ids(context)
    difference = check_encoder(artifact, chain, ids, tolerance=tolerance)
    return [_gate(_answers(chain), difference, encoder_limit(chain, ids, tolerance))]


def compute_capabilities(context: PassContext) -> tuple[int, ...]:
    """What engines are built for. Raises ConfigError where nothing names any, CapabilityError
    where the builder does not know one or is not installed."""
    from hardware_profiles import load_profile
    from nas.backends.tensorrt_rtx import require_sm

    hardware = context.config.target.hardware
    sms = context.config.export.sm or tuple(load_profile(hardware).tensorrt_rtx_sms)
    if not sms:
        raise ConfigError(
            f"export.sm: the profile {hardware} names no compute capability that TensorRT-RTX "
            "builds for; give one, such as [89], or drop tensorrt_rtx from export.formats"
        )
    for sm in sms:
        require_sm(sm)
    return sms


def _gate(name: str, difference: float, limit: float) -> dict[str, Any]:
    return {"name": name, "passed": True, "value": difference, "limit": limit}


def _gates(difference: float, limit: float, tokens: int) -> list[dict[str, Any]]:
    return [
        _gate("logits", difference, limit),
        {"name": "greedy", "passed": True, "detail": f"{tokens} tokens through the cache equal"},
    ]
