"""The latency of a whole network on this machine, in ONNX Runtime."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from nas._imports import require
from nas.backends.onnxruntime import cpu_name, default_threads, open_session
from nas.errors import PassError

_WARM_UP = 3


class LatencyConditions(BaseModel):
    """What the latencies of a search were measured under; the median of `repeats` is the cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[int, ...]
    dtype: str
    threads: int
    repeats: int
    runtime: str
    runtime_version: str
    device: str

    @property
    def name(self) -> str:
        """Of latencies under these conditions, in a journal that several machines may share."""
        return f"latency_ms, {self.device}, {self.threads} threads, {self.runtime_version}"


class LatencyMeter:
    """Exports a network and times it on `example`, a batch of inputs."""

    def __init__(self, example: Tensor, threads: int | None = None, repeats: int = 30) -> None:
        self._example = example
        self._threads = threads or default_threads()
        self._repeats = repeats

    @property
    def conditions(self) -> LatencyConditions:
        return LatencyConditions(
            inputs=tuple(self._example.shape),
            dtype="float32",
            threads=self._threads,
            repeats=self._repeats,
            runtime="onnxruntime",
            runtime_version=require("onnxruntime", extra="cpu").__version__,
            device=cpu_name(),
        )

    def measure(self, network: nn.Module) -> float:
        """Milliseconds of one run; raises CapabilityError, PassError."""
        from nas.meters import TimedSession

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            self._export(network, path)
            session = open_session(path, self._threads)
            timed = TimedSession(session, {"inputs": self._example.numpy()})
            for _ in range(_WARM_UP):
                timed()
            return statistics.median(timed() for _ in range(self._repeats))

    def _export(self, network: nn.Module, path: Path) -> None:
        from nas.backends.onnx._quiet import quiet_export

        require("onnxscript", extra="cpu")
        try:
            with quiet_export(), torch.no_grad():
                torch.onnx.export(
                    network.eval(),
                    (self._example,),
                    path,
                    dynamo=True,
                    verbose=False,
                    input_names=["inputs"],
                )
        except torch.onnx.errors.OnnxExporterError as error:
            raise PassError(f"{type(network).__name__}: torch.onnx does not export it") from error
