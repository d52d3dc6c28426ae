"""A worker of the process pool: paths in, JSON lines out, arrays in files beside.

    python -m nas.executors._worker THREADS

A line names the file that asks for a job; a line answers. The worker ends with the process that
started it, also in the middle of a job.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from nas.executors._failure import described
from nas.executors._function import find_function


def main() -> None:
    """Answer until the other end is gone."""
    import torch

    torch.set_num_threads(int(sys.argv[1]))
    torch.set_grad_enabled(True)
    answers = _private_stdout()
    asked: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    resident = _Residents()
    while True:
        job = json.loads(Path(json.loads(asked.get())).read_bytes())
        answers.write(json.dumps(_answer(job, resident)) + "\n")
        answers.flush()


class _Residents:
    """The last resident; jobs of one pass share it."""

    def __init__(self) -> None:
        self._asked: Any = None
        self._kept: Any = None

    def get(self, asked: dict[str, Any] | None) -> Any:
        if asked != self._asked:
            self._kept = None
            if asked is not None:
                tensors = _read(asked["tensors"], "cpu")
                self._kept = find_function(asked["function"])(tensors, asked["facts"])
            self._asked = asked
        return self._kept


def _answer(job: dict[str, Any], residents: _Residents) -> dict[str, Any]:
    from safetensors.torch import save_file

    try:
        resident = residents.get(job["resident"])
        started = time.perf_counter()
        found = find_function(job["function"])(
            _read(job["tensors"], job["device"]), job["facts"], resident
        )
        seconds = time.perf_counter() - started
        tensors, facts = found
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, job["result"])
        return {"facts": facts, "seconds": seconds}
    except Exception as error:
        traceback.print_exc()  # into the worker's log
        return described(error)


def _read(path: str, device: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(path, device=device)
    return found


def _private_stdout() -> TextIO:
    """The pipe to the other end. Whatever else prints goes to the log."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def _listen(asked: queue.Queue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
