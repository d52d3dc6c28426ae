"""From an ONNX file to an engine for a GPU."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.backends.tensorrt._artifact import (
    LOG,
    MANIFEST,
    EngineArtifact,
    EngineManifest,
    install_folder,
    polygraphy_command,
    timing_command,
)
from nas.backends.tensorrt._base import EngineBackend
from nas.backends.tensorrt._log import BuildLog, new_log
from nas.backends.tensorrt._network import NetworkFile, read_network
from nas.backends.tensorrt._shapes import Shapes, input_shapes
from nas.errors import PassError

Profiles = dict[str, dict[str, list[list[int]]]]


def build_engine(
    backend: EngineBackend,
    onnx_path: Path,
    folder: Path,
    *,
    sms: Sequence[int],
    dtype: str,
    shapes: Shapes,
    name: str = "model",
    logs: Path | None = None,
) -> EngineArtifact:
    """Build one engine from `onnx_path` for all of `sms` (compute capabilities; 89 is 8.9) into a
    folder under `folder`.

    An engine holds for one builder version and its targets, so the folder and the file are named
    `<backend>-<version>-sm<NN-NN>-<dtype>-<hash>`; the hash covers the network, its weights and the
    shapes. Profile 0 is prefill on an empty cache, profile 1 one decoded token (an encoder has no
    such profile). An engine of the same name is replaced once the new one is whole.

    TensorRT-RTX compiles for the GPU at hand when it loads an engine: what is built here takes no
    more time, and hardly more bytes, for four targets than for one (docs/adr/0018).

    Raises CapabilityError where the package, an SM or the precision is not available, ConfigError
    where the file is not in `dtype`, ArtifactError where it is torn, all before anything is built,
    and PassError with the end of the builder's log where the build fails; the whole log is then
    kept in `logs` (`folder` by default), until an engine of that name is built.
    """
    backend.load()
    file = read_network(onnx_path)
    for sm in sms:
        backend.check(file, sm, dtype)
    sms = sorted(set(sms))
    log, key = new_log(backend.load()), _key(backend, file, sms, dtype, shapes)
    failed = (logs or folder) / f"{key}.failed.log"
    try:
        start = time.perf_counter()
        plan, profiles = _build(backend, log, file.path, sms, shapes)
        seconds = time.perf_counter() - start
    except _BuildError as error:
        kept = _keep_log(failed, log.lines)
        raise PassError(f"{error}\n{kept}") from error
    manifest = _manifest(backend, file, plan, profiles, sms, dtype, f"{name}-{key}", seconds)
    built = _install(folder / key, manifest, plan, log)
    with contextlib.suppress(OSError):
        failed.unlink()
    return built


def _install(folder: Path, manifest: EngineManifest, plan: Any, log: BuildLog) -> EngineArtifact:
    files: dict[str, bytes | memoryview] = {
        manifest.engine: memoryview(plan),
        LOG: _text(log.lines),
        MANIFEST: (manifest.model_dump_json(indent=1) + "\n").encode(),
    }
    install_folder(folder, files)
    return EngineArtifact(folder, folder / manifest.engine, manifest)


class _BuildError(PassError):
    """The builder said no; its log says why."""


def _manifest(
    backend: EngineBackend,
    file: NetworkFile,
    plan: Any,
    profiles: Profiles,
    sms: Sequence[int],
    dtype: str,
    title: str,
    seconds: float,
) -> EngineManifest:
    engine = f"{title}.engine"
    return EngineManifest(
        backend=backend.name,
        version=backend.version,
        sms=tuple(sms),
        dtype=dtype,
        opset=file.opset,
        network_sha256=file.digest,
        engine=engine,
        engine_bytes=plan.nbytes,
        engine_sha256=hashlib.sha256(plan).hexdigest(),
        build_s=round(seconds, 2),
        profiles=profiles,
        commands={
            phase: polygraphy_command(backend, engine, index, profiles[phase])
            for index, phase in enumerate(profiles)
        },
        timing_commands={
            phase: timing_command(backend, engine, index, phase, profiles[phase])
            for index, phase in enumerate(profiles)
        },
    )


def _key(
    backend: EngineBackend, network: NetworkFile, sms: Sequence[int], dtype: str, shapes: Shapes
) -> str:
    digest = hashlib.sha256(f"{network.digest} {shapes!r}".encode()).hexdigest()[:12]
    targets = "-".join(map(str, sms))
    return f"{backend.name}-{backend.version}-sm{targets}-{dtype}-{digest}"


def _build(
    backend: EngineBackend, log: BuildLog, onnx_path: Path, sms: Sequence[int], shapes: Shapes
) -> tuple[Any, Profiles]:
    """The serialised engine (an IHostMemory) and its profiles; raises PassError where the network
    does not parse, an input has a foreign dimension or the builder says no."""
    trt = backend.load()
    builder = trt.Builder(log)
    network = builder.create_network(backend.network_flags())
    parser = trt.OnnxParser(network, log)  # it owns the weights
    if not parser.parse_from_file(str(onnx_path)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = [f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors]
        raise _BuildError(f"{onnx_path}: {backend.title} cannot parse it: {'; '.join(reasons)}")
    profiles = {phase: input_shapes(network, shapes.ranges(phase)) for phase in shapes.phases}
    config = builder.create_builder_config()
    # Names of layers come out of an engine only where its builder was told to keep them.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    backend.aim(config, sms)
    for phase, inputs in profiles.items():
        profile = builder.create_optimization_profile()
        for tensor, (least, tuned, most) in inputs.items():
            profile.set_shape(tensor, tuple(least), tuple(tuned), tuple(most))
        if config.add_optimization_profile(profile) < 0:
            raise _BuildError(f"{onnx_path}: the {phase} profile was refused:\n{log.tail()}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        targets = ", ".join(f"SM{sm}" for sm in sms)
        raise _BuildError(
            f"{onnx_path}: {backend.title} built no engine for {targets}; its log ends:\n"
            f"{log.tail()}"
        )
    return plan, profiles


def _keep_log(path: Path, lines: Sequence[str]) -> str:
    """Write the whole log of a failure; a sentence that says where it is, or why it is not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_text(lines))
    except OSError as error:
        return f"(the whole log could not be kept: {error.strerror or error})"
    return f"the whole log: {path}"


def _text(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
