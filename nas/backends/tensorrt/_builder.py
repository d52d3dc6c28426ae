"""From an ONNX file to an engine for a GPU."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
    sm: int,
    dtype: str,
    shapes: Shapes,
    name: str = "model",
) -> EngineArtifact:
    """As `build_engines`, for one compute capability."""
    (artifact,) = build_engines(
        backend, onnx_path, folder, sms=[sm], dtype=dtype, shapes=shapes, name=name
    )
    return artifact


def build_engines(
    backend: EngineBackend,
    onnx_path: Path,
    folder: Path,
    *,
    sms: Sequence[int],
    dtype: str,
    shapes: Shapes,
    name: str = "model",
    workers: int = 2,
) -> list[EngineArtifact]:
    """Build `onnx_path` for each compute capability (89 is 8.9) into a folder under `folder`.

    Engines hold for one builder version and one target, so the folder and the file are named
    `<backend>-<version>-sm<NN>-<dtype>-<hash>`; the hash covers the network, its weights and the
    shapes. Profile 0 is prefill on an empty cache, profile 1 one decoded token (an encoder has no
    such profile). An engine of the same name is replaced once the new one is whole. A build keeps
    one core busy, so `workers` of them run at once, each with the network in memory.

    Raises CapabilityError where the package, an SM or the precision is not available, ConfigError
    where the file is not in `dtype`, ArtifactError where it is torn, all before anything is built,
    and PassError with the end of the builder's log where a build fails; the whole log is then kept
    beside the folders, and the engines of the others are written.
    """
    backend.load()
    file = read_network(onnx_path)
    for sm in sms:
        backend.check(file, sm, dtype)
    wanted = list(dict.fromkeys(sms))
    if not wanted:
        return []
    workers = max(1, min(workers, len(wanted)))
    shares = [wanted[k::workers] for k in range(workers)]

    def work(share: list[int]) -> dict[int, EngineArtifact]:
        return _build_each(backend, file, share, folder, dtype, shapes, name)

    with ThreadPoolExecutor(workers) as pool:
        found = {sm: one for made in pool.map(work, shares) for sm, one in made.items()}
    return [found[sm] for sm in wanted]


def _build_each(
    backend: EngineBackend,
    file: NetworkFile,
    sms: Sequence[int],
    folder: Path,
    dtype: str,
    shapes: Shapes,
    name: str,
) -> dict[int, EngineArtifact]:
    """One engine after the other, from a network that is parsed once."""
    keys = {sm: _key(backend, file, sm, dtype, shapes) for sm in sms}
    log, at_work = new_log(backend.load()), keys[sms[0]]
    artifacts = {}
    try:
        parsed = _Parsed(backend, log, file.path, shapes)
        heard = len(log.lines)
        for sm, key in keys.items():
            at_work = key
            del log.lines[heard:]  # what was said of another target
            start = time.perf_counter()
            plan = parsed.build(sm)
            seconds = time.perf_counter() - start
            manifest = _manifest(
                backend, file, plan, parsed.profiles, sm, dtype, f"{name}-{key}", seconds
            )
            artifacts[sm] = _install(folder / key, manifest, plan, log)
    except _BuildError as error:
        kept = _keep_log(folder / f"{at_work}.failed.log", log.lines)
        raise PassError(f"{error}\n{kept}") from error
    return artifacts


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
    sm: int,
    dtype: str,
    title: str,
    seconds: float,
) -> EngineManifest:
    engine = f"{title}.engine"
    return EngineManifest(
        backend=backend.name,
        version=backend.version,
        sm=sm,
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


def _key(backend: EngineBackend, network: NetworkFile, sm: int, dtype: str, shapes: Shapes) -> str:
    digest = hashlib.sha256(f"{network.digest} {shapes!r}".encode()).hexdigest()[:12]
    return f"{backend.name}-{backend.version}-sm{sm}-{dtype}-{digest}"


class _Parsed:
    """A network in the builder, to be built for one target after another; raises PassError where it
    does not parse or an input has a foreign dimension."""

    def __init__(
        self, backend: EngineBackend, log: BuildLog, onnx_path: Path, shapes: Shapes
    ) -> None:
        trt = backend.load()
        self._backend, self._log, self._path = backend, log, onnx_path
        self._builder = trt.Builder(log)
        self._network = self._builder.create_network(backend.network_flags())
        self._parser = trt.OnnxParser(self._network, log)  # it owns the weights
        if not self._parser.parse_from_file(str(onnx_path)):
            errors = [self._parser.get_error(i) for i in range(self._parser.num_errors)]
            reasons = [f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors]
            raise _BuildError(f"{onnx_path}: {backend.title} cannot parse it: {'; '.join(reasons)}")
        self.profiles: Profiles = {
            phase: input_shapes(self._network, shapes.ranges(phase)) for phase in shapes.phases
        }

    def build(self, sm: int) -> Any:
        """The serialised engine (an IHostMemory); raises PassError."""
        config = self._builder.create_builder_config()
        # Names of layers come out of an engine only where its builder was told to keep them.
        config.profiling_verbosity = self._backend.load().ProfilingVerbosity.DETAILED
        self._backend.aim(config, sm)
        for phase, inputs in self.profiles.items():
            profile = self._builder.create_optimization_profile()
            for tensor, (least, tuned, most) in inputs.items():
                profile.set_shape(tensor, tuple(least), tuple(tuned), tuple(most))
            if config.add_optimization_profile(profile) < 0:
                raise _BuildError(
                    f"{self._path}: the {phase} profile was refused:\n{self._log.tail()}"
                )
        plan = self._builder.build_serialized_network(self._network, config)
        if plan is None:
            raise _BuildError(
                f"{self._path}: {self._backend.title} built no engine for SM{sm}; its log ends:\n"
                f"{self._log.tail()}"
            )
        return plan


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
