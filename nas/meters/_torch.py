"""Latencies of real blocks in torch itself, on this machine's processor or GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nas.config import TargetConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import (
    ChainShape,
    Conditions,
    DecoderShape,
    EncoderShape,
    GroupedQueryAttention,
    Phase,
    TransformerShape,
)
from nas.meters._base import Request
from nas.meters._caches import CacheEvictor
from nas.meters._feeds import Feeds
from nas.meters._stacks import Runs, StackMeter, run_name, stack_name

if TYPE_CHECKING:
    from torch import Tensor

    from nas.blocks import BlockContext
    from nas.chain import DecoderChain, EncoderChain, SlotModule

Step = Callable[[], object]


class TorchMeter(StackMeter):
    """Stacks as torch modules, run eagerly: what a network costs where it is served by torch or
    transformers without a compiler. Times on a GPU are between CUDA events.

    Raises ConfigError for pictures, CapabilityError where the GPU is missing.
    """

    def __init__(self, config: TargetConfig, shape: ChainShape, device: str = "cpu") -> None:
        import torch

        from nas.backends.onnxruntime import default_threads

        super().__init__(config, shape, on_gpu=device == "cuda")
        if not isinstance(shape, (DecoderShape, EncoderShape)):
            raise ConfigError(
                f"target.meter: torch times texts alone, the teacher is a {shape.family}; "
                f"use onnxruntime"
            )
        if self.on_gpu and not torch.cuda.is_available():
            raise CapabilityError(
                "target.meter: torch sees no GPU here; install a build of torch with CUDA, measure "
                "on that machine, or set target.hardware to local"
            )
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self.threads = 1 if self.on_gpu else config.threads or default_threads()

    def conditions(self, phase: Phase) -> Conditions:
        import torch

        from nas.backends._gpu import gpu_name
        from nas.backends.onnxruntime import cpu_name

        return Conditions(
            phase=phase,
            batch=self.config.batch,
            prompt_tokens=self.config.prompt_tokens,
            dtype=self.config.dtype,
            threads=self.threads,
            runtime="torch-cuda" if self.on_gpu else "torch",
            runtime_version=torch.__version__,
            device=gpu_name() if self.on_gpu else cpu_name(),
        )

    @contextlib.contextmanager
    def runs(self, requests: Sequence[Request]) -> Iterator[Runs]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                yield self._runs(requests)
        finally:
            torch.set_num_threads(before)

    def _runs(self, requests: Sequence[Request]) -> Runs:
        wide = self.config.model_copy(update={"dtype": "float32"})  # numpy knows no bfloat16
        feeds, parts = Feeds(wide, self.shape), _Parts(self)
        evictor = None if self.on_gpu else CacheEvictor()
        runs: Runs = {}
        for request in requests:
            for copies in self._stacks(request):
                name = run_name(request, copies)
                if name in runs:
                    continue
                feed = {k: self._tensor(v) for k, v in feeds.of(request, copies).items()}
                run = self._timer(parts.step(request, copies, feed))
                cold = evictor if request.phase == "decode" else None
                runs[name] = run if cold is None else cold.before(run)
        return runs

    def _tensor(self, array: Any) -> Tensor:
        import torch

        tensor = torch.from_numpy(array).to(self.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _timer(self, step: Step) -> Callable[[], float]:
        """Milliseconds of one call."""
        return _between_events(step) if self.on_gpu else _by_the_clock(step)


def _by_the_clock(step: Step) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - start)

    return once


def _between_events(step: Step) -> Callable[[], float]:
    """Between two events on the stream, so that the launch of the first kernel does not count."""
    import torch

    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def once() -> float:
        torch.cuda.synchronize()
        first.record()
        step()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last))

    return once


class _Parts:
    """Modules of what is measured; phases of a block share theirs."""

    def __init__(self, meter: TorchMeter) -> None:
        assert isinstance(meter.shape, TransformerShape)
        self._meter, self._shape = meter, meter.shape
        self._stacks: dict[str, list[SlotModule]] = {}
        self._outside: DecoderChain | EncoderChain | None = None

    def step(self, request: Request, copies: int, feed: dict[str, Tensor]) -> Step:
        """One run of a stack, of the embedding or of the head on `feed`."""
        if request.block is None:
            return self._outer(request, feed)
        name = stack_name(request, copies)
        if name not in self._stacks:
            self._stacks[name] = self._stack(request, copies)
        slots, state = self._stacks[name], feed["state"]
        context = self._context(feed)
        if not isinstance(request.spec, GroupedQueryAttention) or not self._shape.generates:
            return lambda: _through(slots, state, context)
        return lambda: _through_cached(slots, state, context, feed)

    def _stack(self, request: Request, copies: int) -> list[SlotModule]:
        import torch

        from nas.blocks import hold_halves
        from nas.chain import make_slot

        assert request.block is not None
        kind, spec = request.block
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            slots = [make_slot(self._shape, kind, spec) for _ in range(copies)]
        for slot in slots:
            slot.eval().requires_grad_(False).to(self._meter.device, self._meter.dtype)
            hold_halves(slot)  # the real products, not those that stand for them elsewhere
        return slots

    def _context(self, feed: dict[str, Tensor]) -> BlockContext:
        from nas.blocks import BlockContext

        if not self._shape.generates:
            # As a chain without padding has it.
            return BlockContext(causal=False)
        if "cos" not in feed:
            return BlockContext()
        # An additive mask of zeros hides nothing: a prompt is causal, a token sees all before it.
        tokens, total = feed["mask"].shape[-2:]
        seen = (feed["mask"] == 0).tril(total - tokens)
        return BlockContext(feed["cos"], feed["sin"], seen)

    def _outer(self, request: Request, feed: dict[str, Tensor]) -> Step:
        chain = self._chain()
        if request.part == "embed":
            return _embedding(chain, feed)
        state = feed["state"]
        if self._shape.language:
            return lambda: chain.logits(chain.final_hidden(state))
        return lambda: chain.pool(state, feed["attention_mask"])

    def _chain(self) -> Any:
        """A network of one layer, for what stands outside the slots."""
        from nas.chain import DecoderChain, EncoderChain

        if self._outside is None:
            small = self._shape.model_copy(update={"layers": 1})
            kind = DecoderChain if self._shape.generates else EncoderChain
            self._outside = kind(small).eval().requires_grad_(False)  # type: ignore[arg-type]
            self._outside.to(self._meter.device, self._meter.dtype)
        return self._outside


def _embedding(chain: Any, feed: dict[str, Tensor]) -> Step:
    ids, mask = feed["input_ids"], feed["attention_mask"]
    if chain.shape.generates:
        return lambda: (chain.embed_tokens(ids), chain.cached_context(mask, ids.shape[1]))
    return lambda: (chain.embed_tokens(ids, feed.get("token_type_ids")), chain.masked(mask))


def _through(slots: Sequence[SlotModule], state: Tensor, context: BlockContext) -> Tensor:
    for slot in slots:
        state = slot(state, context)
    return state


def _through_cached(
    slots: Sequence[SlotModule], state: Tensor, context: BlockContext, feed: dict[str, Tensor]
) -> Tensor:
    from nas.blocks import KeyValue

    for i, slot in enumerate(slots):
        past = KeyValue(*(feed[f"past_key_values.{i}.{part}"] for part in ("key", "value")))
        state, _ = slot.forward_cached(state, context, past)
    return state
