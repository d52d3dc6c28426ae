"""Measure the blocks of this folder and write a table.

    python run.py [--provider cpu|cuda|tensorrt|tensorrt_rtx] [--threads N] [--repeats N]
                  [--output table.csv]

Needs numpy and onnxruntime (onnxruntime-gpu for a GPU) and nothing else; it stands alone wherever
the folder is copied. A block's latency is the slope between stacks of N and 2N copies, so that what
a run costs whatever is in it cancels; both are timed in turn, and each round gives one row.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

FOLDER = Path(__file__).resolve().parent
WEIGHTS = FOLDER / "graphs" / "weights.bin"
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt_rtx": "NvTensorRTRTXExecutionProvider",
}
BEHIND = {"cpu": (), "cuda": ("cpu",), "tensorrt": ("cuda", "cpu"), "tensorrt_rtx": ("cpu",)}
RUNTIMES = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-cuda",
    "tensorrt": "onnxruntime-tensorrt",
    "tensorrt_rtx": "onnxruntime-tensorrt-rtx",
}
COLUMNS = (
    *("block", "phase", "latency_ms", "batch", "prompt_tokens", "dtype"),
    *("threads", "runtime", "runtime_version", "device", "network"),
)
CACHE_BYTES = 256 * 2**20
LEAST_MS = 1e-6  # of a slope that noise has turned below zero


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 2 for what cannot run here."""
    pack = json.loads((FOLDER / "requests.json").read_text(encoding="utf-8"))
    options = parsed(arguments, pack)
    if PROVIDERS[options.provider] not in ort.get_available_providers():
        return refused(
            f"onnxruntime {ort.__version__} has no {PROVIDERS[options.provider]} here; it has "
            f"{', '.join(ort.get_available_providers())}. For a GPU: pip install onnxruntime-gpu; "
            f"or measure with --provider cpu"
        )
    if options.output.exists():
        return refused(f"{options.output} exists already; move it away or name another --output")
    threads = options.threads if options.provider == "cpu" else 1
    make_weights(pack["weight_bytes"], pack["dtype"])
    conditions = {
        **{name: pack[name] for name in ("batch", "prompt_tokens", "dtype", "network")},
        "threads": threads,
        "runtime": RUNTIMES[options.provider],
        "runtime_version": ort.__version__,
        "device": cpu_name() if options.provider == "cpu" else gpu_name(),
    }
    rows = []
    for i, run in enumerate(pack["runs"], start=1):
        samples = measure(run, pack, options.provider, threads, options.repeats)
        middle = float(np.median(samples))
        progress = f"[{i}/{len(pack['runs'])}]"
        print(f"{progress} {run['block']} {run['phase']}: {middle:.4f} ms", file=sys.stderr)
        rows += [
            {"block": run["block"], "phase": run["phase"], "latency_ms": f"{ms:.9f}", **conditions}
            for ms in samples
        ]
    write(options.output, rows)
    print(options.output)
    return 0


def parsed(arguments: Sequence[str] | None, pack: dict[str, Any]) -> argparse.Namespace:
    """Options; those not given follow the target that the folder was made for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = "cpu" if pack["device"] == "cpu" else "cuda"
    parser.add_argument("--provider", choices=PROVIDERS, default=default)
    parser.add_argument("--threads", type=int, default=pack["threads"] or cores(), help="of a CPU")
    parser.add_argument("--repeats", type=int, default=pack["repeats"])
    parser.add_argument("--output", type=Path, default=FOLDER / "table.csv")
    return parser.parse_args(arguments)


def measure(
    run: dict[str, Any], pack: dict[str, Any], provider: str, threads: int, repeats: int
) -> list[float]:
    """Milliseconds of one block or part, one a round."""
    timers = [
        timer(FOLDER / graph, run["phase"], pack, provider, threads) for graph in run["graphs"]
    ]
    before = evict if provider == "cpu" and run["phase"] == "decode" else None
    samples = interleaved(timers, repeats, before)
    if len(samples) == 1:
        return samples[0]
    short, long = samples
    return [max((b - a) / run["copies"], LEAST_MS) for a, b in zip(short, long, strict=True)]


def interleaved(
    timers: list[Callable[[], float]], repeats: int, before: Callable[[], object] | None
) -> list[list[float]]:
    """Two rounds unheard, then `repeats`; every other one backwards: drift hits all alike."""
    samples: list[list[float]] = [[] for _ in timers]
    for k in range(-2, repeats):
        order = range(len(timers)) if k % 2 == 0 else range(len(timers) - 1, -1, -1)
        for i in order:
            if before is not None:
                before()
            ms = timers[i]()
            if k >= 0:
                samples[i].append(ms)
    return samples


def timer(
    graph: Path, phase: str, pack: dict[str, Any], provider: str, threads: int
) -> Callable[[], float]:
    """One run with inputs and outputs on the device, in milliseconds."""
    session = opened(graph, phase, pack, provider, threads)
    where = "cpu" if provider == "cpu" else "cuda"
    binding = session.io_binding()
    for name, array in feed(session, phase, pack).items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, where, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, where)

    def once() -> float:
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return 1e3 * (time.perf_counter() - start)

    return once


def opened(graph: Path, phase: str, pack: dict[str, Any], provider: str, threads: int) -> Any:
    """A session as nas itself opens them: no spinning threads, denormal numbers as zero. TensorRT's
    providers are told the sizes of the phase, or they would build an engine at the first run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    prefix = {"tensorrt": "trt", "tensorrt_rtx": "nv"}.get(provider)
    given = {}
    if prefix:
        text = ",".join(
            f"{name}:{'x'.join(map(str, shape))}"
            for name, shape in input_shapes(graph, phase, pack).items()
        )
        given = {f"{prefix}_profile_{which}_shapes": text for which in ("min", "opt", "max")}
    chain = [(PROVIDERS[provider], given), *(PROVIDERS[name] for name in BEHIND[provider])]
    session = ort.InferenceSession(str(graph), options, providers=chain)
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise SystemExit(f"onnxruntime fell back to {session.get_providers()[0]}; check its log")
    return session


def input_shapes(graph: Path, phase: str, pack: dict[str, Any]) -> dict[str, list[int]]:
    """Inputs of a graph at the sizes that the phase has, read by a session on the CPU."""
    session = ort.InferenceSession(str(graph), providers=[PROVIDERS["cpu"]])
    sizes = sizes_of(phase, pack)
    return {
        node.name: [sizes[dim] if isinstance(dim, str) else dim for dim in node.shape]
        for node in session.get_inputs()
    }


def sizes_of(phase: str, pack: dict[str, Any]) -> dict[str, int]:
    prompt = pack["prompt_tokens"]
    tokens, past = (prompt, 0) if phase == "prefill" else (1, prompt)
    return {
        "batch": pack["batch"],
        "sequence_length": tokens,
        "past_sequence_length": past,
        "total_sequence_length": past + tokens,
    }


def feed(session: Any, phase: str, pack: dict[str, Any]) -> dict[str, np.ndarray]:
    """Random inputs of the sizes that the phase has."""
    sizes = sizes_of(phase, pack)
    random = np.random.default_rng(0)
    found = {}
    for node in session.get_inputs():
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in node.shape]
        if node.name == "input_ids":
            found[node.name] = random.integers(0, pack["vocab_size"], shape)
        elif node.name == "token_type_ids":
            found[node.name] = np.zeros(shape, np.int64)
        elif node.name == "attention_mask":
            found[node.name] = np.ones(shape, np.int64)
        elif node.name == "mask":  # added to the scores: every key is seen
            found[node.name] = np.zeros(shape, pack["dtype"])
        else:
            found[node.name] = random.standard_normal(shape).astype(pack["dtype"])
    return found


def make_weights(size: int, dtype: str, piece: int = 2**24) -> None:
    """A file of small random numbers, shared by all graphs; made once."""
    if WEIGHTS.exists() and WEIGHTS.stat().st_size == size:
        return
    random, width = np.random.default_rng(0), np.dtype(dtype).itemsize
    partial = WEIGHTS.with_suffix(".partial")
    with partial.open("wb") as file:
        for start in range(0, size, piece * width):
            count = min(piece, (size - start) // width)
            values = 0.02 * random.standard_normal(count, dtype=np.float32)
            file.write(values.astype(dtype).tobytes())
    partial.replace(WEIGHTS)


_buffer: list[np.ndarray] = []


def evict() -> None:
    """Fill the processor's caches with something else."""
    if not _buffer:
        _buffer.append(np.ones(CACHE_BYTES // 8))
    _buffer[0].max()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu_name() -> str:
    """As the driver names the first GPU that this process sees."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    try:
        found = subprocess.run(
            [*command, f"--id={visible}"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "GPU"
    return found.stdout.strip().splitlines()[0]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows or no file."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def refused(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
