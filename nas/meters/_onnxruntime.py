"""Latencies of real blocks in ONNX Runtime on this machine, by any provider that it has here."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nas._imports import require
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import ChainShape, Conditions, Phase
from nas.meters._base import Request
from nas.meters._caches import CacheEvictor
from nas.meters._feeds import Feeds
from nas.meters._session import TimedSession
from nas.meters._stacks import Runs, StackMeter, run_name, stack_name
from nas.meters._timing import settled

_DTYPES = ("float32", "float16")
_TUNED = ("tensorrt", "tensorrt_rtx")


class OnnxRuntimeMeter(StackMeter):
    """Stacks as ONNX files. On a GPU inputs and outputs stay on it, and TensorRT's providers get a
    session for each phase, tuned for its sizes.

    Raises CapabilityError where the provider is not there.
    """

    def __init__(self, config: TargetConfig, shape: ChainShape) -> None:
        super().__init__(config, shape, on_gpu=config.provider != "cpu")
        if config.dtype not in _DTYPES:
            raise ConfigError(
                f"target.dtype: ONNX Runtime runs {' and '.join(_DTYPES)} here, not {config.dtype}"
            )
        _providers().require_provider(config.provider)
        self.threads = 1 if self.on_gpu else config.threads or _backend().default_threads()

    def conditions(self, phase: Phase) -> Conditions:
        """The same as those of an exported decoder's timing, which predictions stand beside."""
        return Conditions(
            phase=phase,
            batch=self.config.batch,
            prompt_tokens=self.config.prompt_tokens,
            dtype=self.config.dtype,
            threads=self.threads,
            runtime=_providers().RUNTIMES[self.config.provider],
            runtime_version=require("onnxruntime", extra="cpu").__version__,
            device=_gpu_name() if self.on_gpu else _backend().cpu_name(),
        )

    @contextlib.contextmanager
    def runs(self, requests: Sequence[Request]) -> Iterator[Runs]:
        folders = tempfile.TemporaryDirectory(prefix="nas-meter-")
        with self.memory_errors(requests), folders as folder:
            yield self._runs(requests, Path(folder))

    def _runs(self, requests: Sequence[Request], folder: Path) -> Runs:
        """Every run to time, by name; the phases of a block share a session where they can."""
        feeds = Feeds(self.config, self.shape)
        evictor = None if self.on_gpu else CacheEvictor()
        device = "cuda" if self.on_gpu else "cpu"
        sessions: dict[str, Any] = {}
        runs: Runs = {}
        for request in requests:
            for copies in self._stacks(request):
                name, stack = run_name(request, copies), stack_name(request, copies)
                if name in runs:
                    continue
                feed = feeds.of(request, copies)
                if self.config.provider in _TUNED:
                    stack = name
                if stack not in sessions:
                    path = self._save(request, copies, folder / f"{len(sessions)}.onnx")
                    bounds = {key: [array.shape] * 3 for key, array in feed.items()}
                    chain = _providers().provider_chain(self.config.provider, bounds)
                    sessions[stack] = _backend().open_session(path, self.threads, chain)
                run = TimedSession(sessions[stack], feed, device)
                if request.phase == "prefill":
                    runs[name] = settled(run)
                else:
                    runs[name] = run if evictor is None else evictor.before(run)
        return runs

    def _save(self, request: Request, copies: int, path: Path) -> Path:
        from nas.backends import onnx

        onnx.save_model(part_model(self.config, self.shape, request, copies), path)
        return path


def part_model(
    config: TargetConfig, shape: ChainShape, request: Request, copies: int, device: str = "cpu"
) -> Any:
    """The ONNX model of a stack of `copies` blocks, of the prologue or of the epilogue."""
    from nas.backends import onnx

    dtype = config.dtype
    if request.block is not None:
        return onnx.block_stack(shape, *request.block, copies, dtype=dtype, device=device)
    part = onnx.prologue_model if request.part == "embed" else onnx.epilogue_model
    return part(shape, dtype=dtype, device=device)


def _backend() -> ModuleType:
    """Imported on use: it needs numpy, which a command that only validates does not load."""
    from nas.backends import onnxruntime

    return onnxruntime


def _providers() -> ModuleType:
    from nas.backends import providers

    return providers


def _gpu_name() -> str:
    from nas.backends._gpu import gpu_name

    return gpu_name()
