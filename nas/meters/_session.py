"""A session of ONNX Runtime as something that can be timed again and again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class TimedSession:
    """A session with its inputs in place; a call runs it and returns milliseconds.

    Inputs and outputs stay values of the runtime, as in a decoding loop that feeds the cache back
    (and as in `nas.backends.onnxruntime`): no copy of an output to numpy is part of the time.
    Several may share a session, one for each phase, say.
    """

    def __init__(self, session: Any, feed: Mapping[str, np.ndarray], device: str = "cpu") -> None:
        from nas.backends.onnxruntime import Runner

        self._runner = Runner(session, device)
        self._feed = {name: self._runner.value(array) for name, array in feed.items()}

    def __call__(self) -> float:
        start = time.perf_counter()
        self._runner.run(self._feed)
        return 1e3 * (time.perf_counter() - start)
