"""An engine on disk: its folder, its manifest, and how both come to be whole."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from nas._scratch import sibling
from nas.backends.tensorrt._base import EngineBackend
from nas.errors import PassError

MANIFEST = "manifest.json"
LOG = "build.log"


class EngineManifest(BaseModel):
    """What an engine is, and the compute capabilities that it is for.

    `profiles`: phase -> input -> least, tuned-for and largest shape. `commands` load and run it,
    one a phase, on a machine with the GPU; `timing_commands` write what each layer took there, for
    `nas show RUN --timings`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str
    version: str
    sms: tuple[int, ...]
    dtype: str
    opset: int
    network_sha256: str
    engine: str
    engine_bytes: int
    engine_sha256: str
    build_s: float
    profiles: dict[str, dict[str, list[list[int]]]]
    commands: dict[str, str]
    timing_commands: dict[str, str]


@dataclass(frozen=True)
class EngineArtifact:
    """A built engine: `folder` holds it with `manifest.json` and `build.log`."""

    folder: Path
    path: Path
    manifest: EngineManifest


def polygraphy_command(
    backend: EngineBackend, engine: str, index: int, shapes: Mapping[str, list[list[int]]]
) -> str:
    """Run profile `index` of an engine at the shapes that it is tuned for."""
    inputs = [f"{name}:[{','.join(map(str, three[1]))}]" for name, three in shapes.items()]
    words = ["polygraphy", "run", engine, "--trt", "--model-type", "engine"]
    words += ["--optimization-profile", str(index), "--input-shapes", *inputs]
    return backend.environment + shlex.join(words)


def timing_command(
    backend: EngineBackend,
    engine: str,
    index: int,
    phase: str,
    shapes: Mapping[str, list[list[int]]],
) -> str:
    """Time profile `index` layer by layer; the program comes with the library, not the wheel."""
    inputs = [f"{name}:{'x'.join(map(str, three[1]))}" for name, three in shapes.items()]
    words = [backend.program, f"--loadEngine={engine}", f"--useProfile={index}"]
    words += [f"--shapes={','.join(inputs)}", f"--exportProfile={phase}-times.json"]
    words += [f"--exportLayerInfo={phase}-layers.json", "--profilingVerbosity=detailed"]
    return shlex.join(words)


def install_folder(target: Path, files: Mapping[str, bytes | memoryview]) -> None:
    """Write all files into a temporary sibling, then rename it to `target`.

    Whatever stood at `target` stays until the new folder is whole; raises PassError, and leaves it
    in place, where the disk is full.
    """
    temporary, previous = sibling(target), sibling(target.with_name(f"{target.name}.old"))
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            with (temporary / name).open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
        if target.exists():
            os.replace(target, previous)
        os.replace(temporary, target)
    except OSError as error:
        if previous.exists() and not target.exists():
            os.replace(previous, target)
        raise PassError(f"cannot write {target}: {error.strerror or error}; free space") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)
