"""ONNX Runtime on the CPU, as everything that nas times runs it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas._imports import require

if TYPE_CHECKING:
    import numpy as np


class TimedSession:
    """A session of `open_session` with its inputs bound once; a call returns milliseconds.

    Several may share a session, one for each phase, say.
    Inputs and outputs stay values of the runtime, as in a decoding loop that feeds the cache back:
    the copy of every output to numpy, which `InferenceSession.run` makes, is no part of the time.
    """

    def __init__(self, session: Any, feed: Mapping[str, np.ndarray]) -> None:
        self._session, self._binding = session, session.io_binding()
        ort = require("onnxruntime", extra="cpu")
        # Values are kept: the binding does not own them.
        self._values = {k: ort.OrtValue.ortvalue_from_numpy(v) for k, v in feed.items()}
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            self._binding.bind_output(output.name)

    def __call__(self) -> float:
        start = time.perf_counter()
        self._session.run_with_iobinding(self._binding)
        return 1e3 * (time.perf_counter() - start)


def open_session(path: Path, threads: int) -> Any:
    """An InferenceSession on the CPU provider with all graph optimisations.

    Its idle threads stop spinning after each run, so that sessions timed in turn do not take each
    other's cores.
    """
    ort = require("onnxruntime", extra="cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
