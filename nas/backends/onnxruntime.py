"""ONNX Runtime: sessions, and networks that can be run and timed."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from nas._imports import require
from nas.backends._gpu import gpu_name
from nas.backends.providers import PROVIDERS, RUNTIMES, require_providers
from nas.errors import ArtifactError, CapabilityError
from nas.ir import ChainShape, Conditions, Phase

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_NAMES = {"tensor(float)": "float32", "tensor(float16)": "float16"}

_FEWEST_TOKENS = 16
"""Ids below this are in any vocabulary; which they are does not matter for time."""

DENORMALS = {"session.set_denormal_as_zero": "1"}
SESSION_CONFIG = {"session.force_spinning_stop": "1", **DENORMALS}

Ids = NDArray[np.int64]
Providers = Sequence[str | tuple[str, dict[str, str]]]
"""Names, or names with options, in the order of preference."""


def default_threads() -> int:
    """Physical cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(psutil.cpu_count(logical=False) or 1, usable or 1))


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor's model name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def open_session(
    path: Path,
    threads: int | None = None,
    providers: Providers | None = None,
    trace: Path | None = None,
) -> Any:
    """An `onnxruntime.InferenceSession`; raises ArtifactError when the file does not load, and
    CapabilityError for a provider that is not there or that falls back to another one.

    Threads stop spinning when a run ends: sessions measured in turns would otherwise take cores
    from each other. Denormal numbers count as zero: a softmax makes many where keys are hidden or
    score low, and each costs a processor some hundred cycles. The runtime takes that setting from
    the first session of the process alone, so that all sessions should be opened here. With
    `trace`, what the nodes of each run take is written to a file whose name starts with that path,
    by `session.end_profiling()`.
    """
    ort = require("onnxruntime", extra="cpu")
    given = list(providers or [PROVIDERS["cpu"]])
    wanted = _names(given)
    require_providers(ort, wanted, ort.get_available_providers())
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if trace is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(trace)
    for key, value in SESSION_CONFIG.items():
        options.add_session_config_entry(key, value)
    try:
        session = ort.InferenceSession(str(path), options, providers=given)
    except Exception as error:  # the binding raises a class of its own for each status code
        raise ArtifactError(f"{path}: ONNX Runtime does not load it: {error}") from error
    # A provider whose libraries do not load is left out with no more than a line in the log.
    require_providers(ort, wanted, session.get_providers())
    return session


def _names(providers: Providers) -> list[str]:
    return [one if isinstance(one, str) else one[0] for one in providers]


class Runner:
    """A session whose inputs and outputs stay where it computes: a cache goes back in as it came,
    and no copy is part of a time.

    `device` is where the session's first provider keeps its values, `cpu` or `cuda`.
    """

    def __init__(self, session: Any, device: str) -> None:
        self._ort = require("onnxruntime", extra="cpu")
        self._session, self.device = session, device
        self._outputs = [output.name for output in session.get_outputs()]

    def value(self, array: NDArray[Any]) -> Any:
        """An input in place."""
        from_numpy = self._ort.OrtValue.ortvalue_from_numpy
        return from_numpy(np.ascontiguousarray(array), self.device, 0)

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Outputs in place."""
        if self.device == "cpu":
            outputs: list[Any] = self._session.run_with_ort_values(self._outputs, feed)
            return outputs
        binding = self._session.io_binding()
        for name, value in feed.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, self.device)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return list(binding.get_outputs())


def runtime_of(providers: Providers | None) -> str:
    """The runtime in the conditions of a latency, named after the first provider."""
    first = _names(providers)[0] if providers else PROVIDERS["cpu"]
    known = {name: RUNTIMES[provider] for provider, name in PROVIDERS.items()}
    return known.get(first, f"onnxruntime-{first}")


def device_of(providers: Providers | None) -> str:
    """Where the first provider keeps its values."""
    return "cpu" if not providers or _names(providers)[0] == PROVIDERS["cpu"] else "cuda"


class OnnxNetwork:
    """A network exported by `nas.backends.onnx`, open in ONNX Runtime.

    Raises ArtifactError when the file does not load, CapabilityError for a bfloat16 one.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        providers: Providers | None = None,
        trace: Path | None = None,
    ) -> None:
        self._ort = require("onnxruntime", extra="cpu")
        self.path, self._providers = path, providers
        self.threads = (threads or default_threads()) if device_of(providers) == "cpu" else 1
        self._session = open_session(path, self.threads, providers, trace)
        self._runner = Runner(self._session, device_of(providers))
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._type: str = self._session.get_outputs()[0].type
        if self._type not in _TYPES:
            raise CapabilityError(
                f"{path}: numpy has no {self._type}; export in float32 or float16 to run it"
            )

    @property
    def dtype(self) -> str:
        """Type of what comes out, and of a cache."""
        return _NAMES[self._type]

    def conditions(self, phase: Phase, batch: int, prompt_tokens: int) -> Conditions:
        """What a timing of this session depends on."""
        return Conditions(
            phase=phase,
            batch=batch,
            prompt_tokens=prompt_tokens,
            dtype=self.dtype,
            threads=self.threads,
            runtime=runtime_of(self._providers),
            runtime_version=self._ort.__version__,
            device=cpu_name() if self._runner.device == "cpu" else gpu_name(),
        )

    def end_trace(self) -> Path:
        """Write what was traced since the session was opened; where it lies."""
        return Path(self._session.end_profiling())

    def _run(self, feed: Mapping[str, Any]) -> list[Any]:
        return self._runner.run(feed)

    def _timed(self, feed: Mapping[str, Any]) -> float:
        """Milliseconds of one run."""
        start = time.perf_counter()
        self._run(feed)
        return 1000.0 * (time.perf_counter() - start)

    def _value(self, array: NDArray[Any]) -> Any:
        return self._runner.value(array)


class OnnxEncoder(OnnxNetwork):
    """An encoder: a batch of texts in one pass."""

    def run(self, ids: Ids, attention_mask: Ids | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """States [batch, tokens, hidden] and embeddings [batch, hidden] of ids [batch, tokens]; of
        a network with a masked head logits [batch, tokens, vocab] in the place of embeddings."""
        mask = np.ones_like(ids) if attention_mask is None else attention_mask
        states, answers = self._run(self._feed(ids, mask))
        return states.numpy(), answers.numpy()

    def time_prefill(self, batch: int, tokens: int) -> float:
        """Milliseconds of one pass over `tokens` tokens a text."""
        ids = np.random.default_rng(0).integers(0, _FEWEST_TOKENS, (batch, tokens))
        return self._timed(self._feed(ids.astype(np.int64), np.ones((batch, tokens), np.int64)))

    def _feed(self, ids: Ids, mask: Ids) -> dict[str, Any]:
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {name: self._value(given[name]) for name in self._inputs}


class OnnxClassifier(OnnxNetwork):
    """A classifier of pictures."""

    def run(self, pixel_values: NDArray[Any]) -> NDArray[Any]:
        """Logits [batch, classes] of normalised pictures [batch, 3, side, side]."""
        logits: NDArray[Any] = self._run(self._feed(pixel_values))[0].numpy()
        return logits

    def time_prefill(self, batch: int, tokens: int) -> float:
        """Milliseconds of one pass over `batch` pictures."""
        if batch not in self._feeds:
            sizes = self._session.get_inputs()[0].shape[1:]
            values = np.random.default_rng(0).standard_normal((batch, *sizes), np.float32)
            self._feeds[batch] = self._feed(values)
        return self._timed(self._feeds[batch])

    @cached_property
    def _feeds(self) -> dict[int, dict[str, Any]]:
        return {}

    def _feed(self, pixel_values: NDArray[Any]) -> dict[str, Any]:
        kind = _TYPES[self._type]
        return {self._inputs[0]: self._value(pixel_values.astype(kind))}


class OnnxDecoder(OnnxNetwork):
    """A decoder with a key-value cache."""

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        providers: Providers | None = None,
        trace: Path | None = None,
    ) -> None:
        super().__init__(path, threads, providers, trace)
        self._caches = {
            node.name: (int(node.shape[1]), int(node.shape[3]))
            for node in self._session.get_inputs()
            if _PAST.fullmatch(node.name)
        }
        self._feeds: dict[tuple[int, int, int], dict[str, Any]] = {}

    @property
    def kv_heads(self) -> dict[int, int]:
        """KV heads of each layer that caches."""
        layers = {name: int(name.split(".")[1]) for name in self._caches}
        return {layers[name]: heads for name, (heads, _) in self._caches.items()}

    def prefill(self, ids: Ids, attention_mask: Ids | None = None) -> NDArray[Any]:
        """Logits [batch, tokens, vocab] of `ids` [batch, tokens] on an empty cache."""
        mask = np.ones_like(ids) if attention_mask is None else attention_mask
        logits: NDArray[Any] = self._run(self._feed(ids, mask, self._empty(len(ids))))[0].numpy()
        return logits

    def greedy(self, ids: Ids, tokens: int, attention_mask: Ids | None = None) -> Ids:
        """The `tokens` most likely next tokens [batch, tokens], one at a time through the cache."""
        mask = np.ones_like(ids) if attention_mask is None else attention_mask
        past, chosen = self._empty(len(ids)), []
        for _ in range(tokens):
            logits, *present = self._run(self._feed(ids, mask, past))
            ids = logits.numpy()[:, -1].argmax(-1, keepdims=True).astype(np.int64)
            past = self._as_past(present)
            mask = np.concatenate([mask, np.ones_like(ids)], axis=1)
            chosen.append(ids)
        return np.concatenate(chosen, axis=1)

    def time_prefill(self, batch: int, tokens: int) -> float:
        """Milliseconds of one prefill of `tokens` tokens."""
        return self._time(batch, tokens, 0)

    def time_decode(self, batch: int, past_tokens: int) -> float:
        """Milliseconds of one token with `past_tokens` in the cache."""
        return self._time(batch, 1, past_tokens)

    def _time(self, batch: int, tokens: int, past_tokens: int) -> float:
        key = (batch, tokens, past_tokens)
        if key not in self._feeds:
            self._feeds[key] = self._random_feed(*key)
        return self._timed(self._feeds[key])

    def _feed(self, ids: Ids, mask: Ids, past: Mapping[str, Any]) -> dict[str, Any]:
        return {"input_ids": self._value(ids), "attention_mask": self._value(mask), **past}

    def _empty(self, batch: int) -> dict[str, Any]:
        kind = _TYPES[self._type]
        return {
            name: self._value(np.zeros((batch, heads, 0, dim), dtype=kind))
            for name, (heads, dim) in self._caches.items()
        }

    def _as_past(self, present: Sequence[Any]) -> dict[str, Any]:
        names = [name.replace("present", "past_key_values") for name in self._outputs[1:]]
        return dict(zip(names, present, strict=True))

    def _random_feed(self, batch: int, tokens: int, past_tokens: int) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        kind = _TYPES[self._type]
        ids = rng.integers(0, self._session.get_outputs()[0].shape[2], (batch, tokens))
        mask = np.ones((batch, past_tokens + tokens), dtype=np.int64)
        past = {
            name: self._value(
                rng.standard_normal((batch, heads, past_tokens, dim), np.float32).astype(kind)
            )
            for name, (heads, dim) in self._caches.items()
        }
        return self._feed(ids.astype(np.int64), mask, past)


Network = OnnxDecoder | OnnxEncoder | OnnxClassifier


def open_network(
    path: Path,
    shape: ChainShape,
    threads: int | None = None,
    trace: Path | None = None,
    providers: Providers | None = None,
) -> Network:
    """An exported network of the kind that `shape` is of."""
    if shape.reads_pictures:
        return OnnxClassifier(path, threads, providers, trace)
    kind = OnnxDecoder if shape.generates else OnnxEncoder
    return kind(path, threads, providers, trace)


def network_timer(network: Network, phase: Phase, batch: int, tokens: int) -> Callable[[], float]:
    """Milliseconds a call: one pass over a prompt, or one token of a decoder after it."""
    if phase == "prefill":
        return lambda: network.time_prefill(batch, tokens)
    assert isinstance(network, OnnxDecoder)
    return lambda: network.time_decode(batch, tokens)
