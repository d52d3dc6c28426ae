"""A session of ONNX Runtime as something that can be timed again and again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas._imports import require

if TYPE_CHECKING:
    import numpy as np


class TimedSession:
    """A session with its inputs in place; a call runs it and returns milliseconds.

    Inputs and outputs stay values of the runtime, as in a decoding loop that feeds the cache back
    (and as in `nas.backends.onnxruntime`): no copy of an output to numpy is part of the time.
    Several may share a session, one for each phase, say.
    """

    def __init__(self, session: Any, feed: Mapping[str, np.ndarray]) -> None:
        value = require("onnxruntime", extra="cpu").OrtValue.ortvalue_from_numpy
        self._session = session
        self._feed = {name: value(array) for name, array in feed.items()}
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self) -> float:
        start = time.perf_counter()
        self._session.run_with_ort_values(self._outputs, self._feed)
        return 1e3 * (time.perf_counter() - start)
