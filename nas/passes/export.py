"""Export: the student as files that a runtime loads, each behind a gate.

Teacher and baselines are exported to ONNX too, by the same code: a speed-up is only as honest as
what it is measured against. Files are written beside their place, checked there, and take it only
when the gate has passed: a failed export leaves the earlier files as they were.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hardware_profiles import load_profile
from nas._scratch import sibling
from nas.backends.deci import Fields
from nas.backends.tensorrt import (
    ENGINE_FORMATS,
    EngineBackend,
    EngineShapes,
    PictureShapes,
    Shapes,
    TensorRt,
    TextShapes,
    build_engine,
    create_backend,
)
from nas.chain import Chain, ConvChain, DecoderChain, EncoderChain, PictureChain, VisionChain
from nas.config import TargetConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import Architecture, as_text
from nas.passes._context import PassContext
from nas.passes.students import distilled
from nas.run import content_key

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
    config = context.config.export
    every = {"teacher": Architecture(), **architectures}
    source = {"teacher": context.teacher_key, **keys}
    gate = config.greedy_tokens
    targets = _targets(context, source["student"])  # refuse before anything is written
    if "huggingface" in config.formats:
        key = content_key("huggingface", source["student"], gate)
        _unit(context, "huggingface", "student", "student", key, every, _huggingface)
    if "onnx" in config.formats:
        for name in every:
            key = content_key("onnx", source[name], gate, _sizes(context))
            _unit(context, "onnx", name, f"onnx/{name}", key, every, _onnx)
    for name, sms in targets.items():
        key = _engine_key(context, name, source["student"], sms)
        build = partial(_engine, create_backend(name), sms)
        _unit(context, name, "student", f"engines/{name}", key, every, build)
    # Last: they may refuse the student, and nothing else should wait for that.
    for name, write in (("decilm", _decilm), ("gguf", _gguf)):
        if name in config.formats:
            key = content_key(name, source["student"], gate)
            _unit(context, name, "student", name, key, every, write)


def export_units(context: PassContext, names: tuple[str, ...]) -> list[str]:
    """Names of the units that the configuration asks for, in order."""
    formats = context.config.export.formats
    units = ["export/huggingface-student"] if "huggingface" in formats else []
    units += [f"export/onnx-{name}" for name in names] if "onnx" in formats else []
    others = (*ENGINE_FORMATS, "decilm", "gguf")
    return units + [f"export/{name}-student" for name in others if name in formats]


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
    unchecked = sibling(final)
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
        gates = _check_classifier(context, artifact, chain, _ONNX_TOLERANCE)
        _write_providers(context, artifact.path)
        return {"gates": gates}
    if isinstance(chain, EncoderChain):
        artifact = export_encoder(chain, folder, dtype="float32")
        gates = _check_encoder(context, artifact, chain, _ONNX_TOLERANCE)
        _write_providers(context, artifact.path)
        context.teacher.tokenizer.save_pretrained(str(folder))
        return {"gates": gates}
    assert isinstance(chain, DecoderChain)
    artifact = export_onnx(chain, folder, dtype="float32")
    gates = _check_onnx(context, artifact, chain, _ONNX_TOLERANCE)
    _write_providers(context, artifact.path)
    write_genai_config(chain.shape, folder)
    context.teacher.tokenizer.save_pretrained(str(folder))
    limit = next(gate["limit"] for gate in gates if gate["name"] == "logits")
    return {"gates": [*gates, *_check_genai(context, chain, folder, limit)]}


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
    teacher = context.teacher
    export_vision_folder(
        chain,
        folder,
        name=context.config.name,
        preprocessing=teacher.preprocessing,
        labels=teacher.labels,
    )
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


def _decilm(context: PassContext, chain: Chain, folder: Path) -> dict[str, Any]:
    """A folder for vLLM, read back by a reader of our own."""
    from nas.backends.deci import check_decilm, export_decilm
    from nas.blocks import dequantised

    decoder = dequantised(_decoder(chain, "decilm"))
    export_decilm(decoder, context.teacher.tokenizer, folder)
    limit = _HUGGINGFACE_TOLERANCE
    difference = check_decilm(folder, decoder, _gate_ids(context), tolerance=limit)
    return {"gates": [_gate("logits", difference, limit)]}


def _gguf(context: PassContext, chain: Chain, folder: Path) -> dict[str, Any]:
    """A file for llama.cpp, run by it where its Python package is installed."""
    from nas.backends.deci import check_gguf, export_gguf, llama_cpp_is_here
    from nas.blocks import dequantised

    decoder = dequantised(_decoder(chain, "gguf"))
    name, limit = context.config.name, _LOW_PRECISION_TOLERANCE
    path = export_gguf(decoder, folder / f"{name}.gguf", name=name, vocabulary=vocabulary(context))
    if not llama_cpp_is_here():
        context.progress.say("llama-cpp-python is not installed: the GGUF file was not run")
        return {"gates": []}
    tokens = context.config.export.greedy_tokens
    prompt = _gate_ids(context)[0]
    difference = check_gguf(path, decoder, prompt, greedy_tokens=tokens, tolerance=limit)
    return {"gates": _gates(difference, limit, tokens)}


def _decoder(chain: Chain, name: str) -> DecoderChain:
    if not isinstance(chain, DecoderChain):
        raise CapabilityError(
            f"export.formats: {name} is a layout of decoders, the student is a "
            f"{chain.shape.family}; leave it out"
        )
    return chain


def vocabulary(context: PassContext) -> Fields:
    """The teacher's own keys where it is a GGUF file, else those that its tokenizer comes to.

    Raises CapabilityError for a tokenizer that llama.cpp has no words for, and where its package is
    missing, which compares them."""
    from nas.backends.deci import of_file, of_tokenizer, reads_alike

    path = vocabulary_file(context)
    if path is not None:
        return of_file(path)
    tokenizer, shape = context.teacher.tokenizer, as_text(context.teacher.shape)
    return of_tokenizer(tokenizer, shape.vocab_size, partial(reads_alike, tokenizer))


def vocabulary_file(context: PassContext) -> Path | None:
    """The GGUF file that the vocabulary is copied from; None where a tokenizer is compared."""
    from nas.teachers import local_path

    config = context.config.teacher
    path = local_path(config.tokenizer or config.source)
    return path if path is not None and path.suffix.lower() == ".gguf" else None


def _engine(
    backend: EngineBackend,
    sms: Sequence[int],
    context: PassContext,
    chain: Chain,
    folder: Path,
) -> dict[str, Any]:
    """An engine for all compute capabilities, and the ONNX file that it is built from."""
    dtype = context.config.export.engine_dtype
    path, gates = _engine_source(context, chain, folder / f"onnx-{dtype}", dtype)
    started = time.perf_counter()
    built = build_engine(
        backend,
        path,
        folder,
        sms=sms,
        dtype=dtype,
        shapes=_engine_shapes(context, context.config.target.at_batch(context.batch)),
        name=context.config.name,
        logs=folder.parent,  # `folder` goes where the build fails
    )
    seconds = time.perf_counter() - started
    names = ", ".join(f"SM{sm}" for sm in sms)
    context.progress.say(f"built an engine in {dtype} for {names} in {seconds:.0f} s")
    return {
        "engine": str(built.path.relative_to(folder)),
        "sms": sorted(set(sms)),
        "build_s": round(seconds, 2),
        "gates": gates,
    }


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


def _sizes(context: PassContext) -> list[tuple[int, int, int]]:
    """Batch, prompt and output tokens of the target and of each scenario."""
    target = context.config.target
    every = [target, *(target.in_scenario(name) for name in target.scenarios)]
    return [(one.batch, one.prompt_tokens, one.output_tokens) for one in every]


def _write_providers(context: PassContext, path: Path) -> None:
    """Options for ONNX Runtime's providers, for all conditions that the target names.

    Tuned for a token after the target's prompt, where there is decoding: most runs are such."""
    from nas.backends.providers import covering, input_bounds, write_providers

    target = context.config.target
    every = [target, *(target.in_scenario(name) for name in target.scenarios)]
    shapes = [_engine_shapes(context, one) for one in every]
    ranges = [one.ranges(phase) for one in shapes for phase in reversed(one.phases)]
    write_providers(path.parent, covering([input_bounds(path, one) for one in ranges]))


def _engine_shapes(context: PassContext, target: TargetConfig) -> Shapes:
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
    slots = _check_slots(context, artifact, chain)
    report = check_onnx(
        artifact, chain, _gate_ids(context), greedy_tokens=tokens, tolerance=tolerance
    )
    return [*slots, *_gates(report.max_logits_difference, report.limit, tokens)]


def _check_slots(
    context: PassContext, artifact: Any, chain: DecoderChain | EncoderChain
) -> list[dict[str, Any]]:
    """Each block that rounds by itself: a gate of the whole network is wide where any rounds."""
    from nas.backends.onnx import SLOT_LIMIT, check_slots

    found = check_slots(artifact, chain, _gate_ids(context))
    if found is None:
        return []
    gate = _gate("blocks that round", found.share, SLOT_LIMIT)
    return [{**gate, "detail": f"{found.slot} is furthest, relative to the effect of rounding"}]


def _check_genai(
    context: PassContext, chain: DecoderChain, folder: Path, limit: float
) -> list[dict[str, Any]]:
    """Where onnxruntime-genai is installed, the folder is run by it; where it then does not load,
    that is said: nobody asked for it."""
    from nas.backends.onnx import check_genai, genai_is_here

    tokens = context.config.export.greedy_tokens
    if not genai_is_here() or not tokens:
        return []
    prompt = _gate_ids(context)[0]
    try:
        check_genai(folder, chain, prompt, greedy_tokens=tokens, tolerance=limit)
    except CapabilityError as error:
        context.progress.say(f"the ONNX folder was not run by onnxruntime-genai: {error}")
        return []
    detail = f"{tokens} tokens by onnxruntime-genai equal"
    return [{"name": "genai", "passed": True, "detail": detail}]


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
    slots = _check_slots(context, artifact, chain)
    difference = check_encoder(artifact, chain, ids, tolerance=tolerance)
    limit = encoder_limit(chain, ids, tolerance)
    return [
        *slots,
        _gate(_answers(chain), difference.answers, limit.answers),
        _gate("states", difference.states, limit.states),
    ]


def _targets(context: PassContext, student: str) -> dict[str, tuple[int, ...]]:
    """The compute capabilities of each back end in `export.formats`: those of a finished engine,
    which neither the package nor the GPU is needed for, else those to build for."""
    found: dict[str, tuple[int, ...]] = {}
    for name in ENGINE_FORMATS:
        if name in context.config.export.formats:
            sms, record = recorded_sms(context, name), context.run.record(_engine_unit(name))
            if sms and record and record.key == _engine_key(context, name, student, sms):
                found[name] = sms
            else:
                found |= engine_targets(context, [name])
    return found


def recorded_sms(context: PassContext, name: str) -> tuple[int, ...]:
    """The compute capabilities that a back end has built for; empty where it has not, and where
    the configuration names others."""
    record = context.run.record(_engine_unit(name))
    if record is None or not isinstance(record.data, dict):
        return ()
    sms = tuple(record.data.get("sms", ()))
    asked = context.config.export.sm
    if not asked and name == "tensorrt_rtx":
        asked = tuple(load_profile(context.config.target.hardware).tensorrt_rtx_sms)
    return sms if not asked or set(asked) == set(sms) else ()


def _engine_unit(name: str) -> str:
    return f"export/{name}-student"


def _engine_key(context: PassContext, name: str, student: str, sms: Sequence[int]) -> str:
    config, target = context.config.export, context.config.target.at_batch(context.batch)
    sizes = (target.batch, target.prompt_tokens, target.output_tokens)
    parts = (config.greedy_tokens, config.engine_dtype, sorted(set(sms)), sizes)
    return content_key(name, student, *parts)


def engine_targets(context: PassContext, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The compute capabilities that the back ends `names` are to build for. Raises ConfigError
    where nothing names any, CapabilityError where the builder does not know one or is not
    installed."""
    export, hardware = context.config.export, context.config.target.hardware
    found: dict[str, tuple[int, ...]] = {}
    for name in names:
        backend = create_backend(name)
        sms = export.sm or wanted_sms(backend, hardware)
        for sm in sms:
            backend.require_sm(sm)
        found[name] = sms
    return found


def wanted_sms(backend: EngineBackend, hardware: str) -> tuple[int, ...]:
    """What a back end builds for where `export.sm` is empty."""
    if isinstance(backend, TensorRt):
        return backend.sms()
    sms = tuple(load_profile(hardware).tensorrt_rtx_sms)
    if not sms:
        raise ConfigError(
            f"export.sm: the profile {hardware} names no compute capability that TensorRT-RTX "
            "builds for; give one, such as [89], or drop tensorrt_rtx from export.formats"
        )
    return sms


def _gate(name: str, difference: float, limit: float) -> dict[str, Any]:
    return {"name": name, "passed": True, "value": difference, "limit": limit}


def _gates(difference: float, limit: float, tokens: int) -> list[dict[str, Any]]:
    return [
        _gate("logits", difference, limit),
        {"name": "greedy", "passed": True, "detail": f"{tokens} tokens through the cache equal"},
    ]
