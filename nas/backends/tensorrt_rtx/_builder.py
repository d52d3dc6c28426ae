"""From an ONNX file to an engine for a named GPU, without that GPU."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from nas.backends.tensorrt_rtx._artifact import (
    LOG,
    MANIFEST,
    EngineArtifact,
    EngineManifest,
    install_folder,
    polygraphy_command,
)
from nas.backends.tensorrt_rtx._log import BuildLog, new_log
from nas.backends.tensorrt_rtx._network import NetworkFile, read_network
from nas.backends.tensorrt_rtx._shapes import PHASES, EngineShapes, input_shapes
from nas.backends.tensorrt_rtx._support import check_support, load_tensorrt_rtx
from nas.errors import PassError

BACKEND = "tensorrt_rtx"

Profiles = dict[str, dict[str, list[list[int]]]]


def build_engine(
    onnx_path: Path,
    folder: Path,
    *,
    sm: int,
    dtype: str,
    shapes: EngineShapes,
    name: str = "model",
) -> EngineArtifact:
    """Build `onnx_path` for compute capability `sm` (89 is 8.9) into a folder under `folder`.

    Engines hold for one builder version and one target, so the folder and the file are named
    `tensorrt_rtx-<version>-sm<NN>-<dtype>-<hash>`; the hash covers the network, its weights and the
    shapes. Profile 0 is prefill on an empty cache, profile 1 one decoded token. An engine of the
    same name is replaced once the new one is whole.

    Raises CapabilityError where the package, the SM or the precision is not available, ConfigError
    where the file is not in `dtype`, ArtifactError where it is torn, and PassError with the end of
    the builder's log where the build fails; the whole log is then kept beside the folder.
    """
    trt = load_tensorrt_rtx()
    network_file = read_network(onnx_path)
    check_support(network_file, sm, dtype)
    key = _key(trt, network_file, sm, dtype, shapes)
    log, start = new_log(trt), time.perf_counter()
    try:
        plan, profiles = _build(trt, log, onnx_path, sm, shapes)
    except PassError as error:
        kept = _keep_log(folder / f"{key}.failed.log", log)
        raise PassError(f"{error}\n{kept}") from error
    engine = f"{name}-{key}.engine"
    manifest = EngineManifest(
        backend=BACKEND,
        version=trt.__version__,
        sm=sm,
        dtype=dtype,
        opset=network_file.opset,
        network_sha256=network_file.digest,
        engine=engine,
        engine_bytes=plan.nbytes,
        engine_sha256=hashlib.sha256(plan).hexdigest(),
        build_s=round(time.perf_counter() - start, 2),
        profiles=profiles,
        commands={
            phase: polygraphy_command(engine, index, profiles[phase])
            for index, phase in enumerate(PHASES)
        },
    )
    files: dict[str, bytes | memoryview] = {
        engine: memoryview(plan),
        LOG: _text(log),
        MANIFEST: (manifest.model_dump_json(indent=1) + "\n").encode(),
    }
    install_folder(folder / key, files)
    return EngineArtifact(folder / key, folder / key / engine, manifest)


def _key(trt: Any, network: NetworkFile, sm: int, dtype: str, shapes: EngineShapes) -> str:
    digest = hashlib.sha256(f"{network.digest} {shapes!r}".encode()).hexdigest()[:12]
    return f"{BACKEND}-{trt.__version__}-sm{sm}-{dtype}-{digest}"


def _build(
    trt: Any, log: BuildLog, onnx_path: Path, sm: int, shapes: EngineShapes
) -> tuple[Any, Profiles]:
    """The serialised engine (an IHostMemory) and its profiles; raises PassError."""
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = [f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors]
        raise PassError(f"{onnx_path}: TensorRT-RTX cannot parse it: {'; '.join(reasons)}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), 0)
    profiles = {phase: input_shapes(network, shapes.ranges(phase)) for phase in PHASES}
    for phase, inputs in profiles.items():
        profile = builder.create_optimization_profile()
        for tensor, (least, tuned, most) in inputs.items():
            profile.set_shape(tensor, tuple(least), tuple(tuned), tuple(most))
        if config.add_optimization_profile(profile) < 0:
            raise PassError(f"{onnx_path}: the {phase} profile was refused:\n{log.tail()}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise PassError(
            f"{onnx_path}: TensorRT-RTX built no engine for SM{sm}; its log ends:\n{log.tail()}"
        )
    return plan, profiles


def _keep_log(path: Path, log: BuildLog) -> str:
    """Write the whole log of a failure; a sentence that says where it is, or why it is not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_text(log))
    except OSError as error:
        return f"(the whole log could not be kept: {error.strerror or error})"
    return f"the whole log: {path}"


def _text(log: BuildLog) -> bytes:
    return ("\n".join(log.lines) + "\n").encode()
