"""How much of the machine's matrix rate do build and score use, and was that foreseen?

    python benchmarks/speed.py [--teacher SOURCE] [--method one_backward ...] [--set KEY=VALUE ...]

SmolLM2-135M from its package is built and scored with the settings of `examples/smollm2-demo.yaml`,
by both methods of scoring. Every matrix product, attention and factorisation that a pass asks for
is counted with its number format, as it is dispatched; the pass is then run anew without the
counter. The time that all of them would take at this machine's measured rate of matrix products in
the same format, over the time that the pass took, is the share reported. A format is what torch was
asked for: float32 that may be multiplied as bfloat16 (`medium`) is one of its own, for some
processors do and some do not. Rates are measured before and after each pass and the better is
taken, which is the stricter. The ceiling is the share that the very same operations reach, each
kind and layout alone in a loop on data that is at hand. The forecast is that of `nas plan`, made
just before.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nas.compiler import compile_run, make_plan
from nas.config import RunConfig, load_config
from nas.console import Session
from nas.errors import NasError
from nas.run import RunDirectory

_CONFIG = Path(__file__).parents[1] / "examples" / "smollm2-demo.yaml"
_SIZE = 2048
_METHODS = ("one_backward", "replace_one")
Shape = Sequence[int]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", help="teacher.source; default: that of the configuration")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--method", nargs="+", choices=_METHODS, default=_METHODS)
    given = parser.parse_args()
    overrides = [f"teacher.source={given.teacher}"] if given.teacher else []
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    good = True
    with tempfile.TemporaryDirectory(prefix="nas-speed-") as folder:
        for method in given.method:
            try:
                config = load_config(
                    _CONFIG,
                    [f"score.method={method}", *_ROOFLINE, *overrides, *given.overrides],
                )
                good &= _report(config, Path(folder) / method, method, method == given.method[0])
            except NasError as error:
                print(error, file=sys.stderr)
                return error.exit_code
    return 0 if good else 1


_ROOFLINE = ("target.hardware=rtx4090", "target.meter=roofline")
"""Latencies are not what is measured here, and take minutes."""


def _report(config: RunConfig, root: Path, method: str, counts_build: bool) -> bool:
    plan = {row.pass_name: row.seconds for row in make_plan(config).rows}
    run, good = RunDirectory.create(root), True
    compile_run(config, run, Session().progress, stop="prune")
    for name in ("build", "score"):
        if name == "build" and not counts_build:
            compile_run(config, run, Session().progress, stop="build")
            continue  # the same as before
        counter = _counted(config, root, name)
        rates, started = _rates(), time.perf_counter()
        outcome = compile_run(config, run, Session().progress, stop=name)
        whole = time.perf_counter() - started
        seconds = outcome.seconds[name]
        after = _rates()
        rates = {kind: max(rates[kind], after[kind]) for kind in rates}
        ideal = {kind: flops / rates[kind] for kind, flops in counter.flops.items()}
        share = sum(ideal.values()) / seconds
        error = plan[name] / seconds - 1
        title = name if name == "build" else f"score ({method})"
        print(f"\n{title}: {seconds:.1f} s (the command {whole:.1f} s)")
        for kind, flops in sorted(counter.flops.items()):
            print(
                f"  {kind:<16} {flops / 1e9:>9,.0f} GFLOP at {rates[kind] / 1e9:>6,.0f} GFLOP/s: "
                f"{ideal[kind]:.1f} s"
            )
        print(f"  share of the matrix rate: {share:.0%} (goal: 50 %)")
        alone = counter.alone_seconds()
        ceiling = sum(ideal.values()) / alone
        print(f"  the same operations alone: {alone:.1f} s, a share of {ceiling:.0%}")
        print(f"  forecast: {plan[name]:.1f} s, {error:+.0%} (goal: within 25 %)")
        sys.stdout.flush()
        good &= share >= 0.5 and abs(error) <= 0.25
    return good


def _counted(config: RunConfig, root: Path, name: str) -> _Counter:
    """What a pass asks for, from a run of it in a copy of the run: counting takes time."""
    copied = root.with_name(f"{root.name}-counted")
    shutil.copytree(root, copied)
    with _Counter() as counter:
        compile_run(config, RunDirectory.create(copied), stop=name)
    shutil.rmtree(copied)
    return counter


def _rates() -> dict[str, float]:
    """FLOP/s of square products by number format: the best of some."""
    found = {}
    for kind in (torch.bfloat16, torch.float32, torch.float64):
        a, b = (torch.randn(_SIZE, _SIZE).to(kind) for _ in range(2))
        for precision in ("highest", "medium") if kind == torch.float32 else ("highest",):
            best = float("inf")
            with _precision(precision):
                for _ in range(8):
                    started = time.perf_counter()
                    a @ b
                    best = min(best, time.perf_counter() - started)
                found[_format(kind)] = 2 * _SIZE**3 / best
    return found


@contextmanager
def _precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _format(kind: torch.dtype) -> str:
    """The name of a number format under the present precision."""
    medium = kind == torch.float32 and torch.get_float32_matmul_precision() == "medium"
    return str(kind).removeprefix("torch.") + (" (medium)" if medium else "")


@dataclass(frozen=True)
class _Like:
    """A tensor of this layout."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def make(self, definite: bool) -> torch.Tensor:
        if definite and len(self.shape) > 1 and self.shape[-1] == self.shape[-2]:
            return torch.eye(self.shape[-1], dtype=self.dtype).expand(self.shape)
        size = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return torch.randn(size).to(self.dtype).as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class _Call:
    """An operation with the layouts of what it was given."""

    func: Any
    args: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...]
    precision: str

    @classmethod
    def of(cls, func: Any, args: Sequence[Any], named: dict[str, Any]) -> _Call:
        def layout(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return _Like(tuple(value.shape), value.stride(), value.dtype)
            return tuple(value) if isinstance(value, list) else value

        return cls(
            func,
            tuple(map(layout, args)),
            tuple((k, layout(v)) for k, v in named.items()),
            torch.get_float32_matmul_precision(),
        )

    @torch.no_grad()
    def seconds(self) -> float:
        """The best of some calls."""
        definite = any(name in self.func._schema.name for name in ("cholesky", "linalg"))

        def real(value: Any) -> Any:
            return value.make(definite) if isinstance(value, _Like) else value

        args = [real(a) for a in self.args]
        named = {k: real(v) for k, v in self.named}
        best = float("inf")
        with _precision(self.precision):
            for _ in range(4):
                started = time.perf_counter()
                self.func(*args, **named)
                best = min(best, time.perf_counter() - started)
        return best


class _Counter(TorchDispatchMode):
    """FLOPs of all matrix work by number format, and the operations that do it."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.calls: Counter[_Call] = Counter()

    def alone_seconds(self) -> float:
        """What all operations would take, if each was as fast as it is alone."""
        return sum(times * call.seconds() for call, times in self.calls.items())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        count = _COUNTS.get(func._schema.name)
        if count is not None:
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            self.flops[_format(tensors[-1].dtype)] += count([t.shape for t in tensors])
            self.calls[_Call.of(func, args, kwargs or {})] += 1
        return out


def _mm(a: Shape, b: Shape) -> float:
    return 2.0 * a[-2] * a[-1] * b[-1] * (a[0] if len(a) == 3 else 1)


def _attention(q: Shape, k: Shape) -> float:
    """Causal: half of the square."""
    return 2.0 * q[0] * q[1] * q[2] * k[2] * q[3]


def _solve(a: Shape, b: Shape) -> float:
    return 2 / 3 * a[-1] ** 3 + 2.0 * a[-1] ** 2 * b[-1]


_COUNTS: dict[str, Callable[[list[Shape]], float]] = {
    "aten::mm": lambda s: _mm(s[0], s[1]),
    "aten::bmm": lambda s: _mm(s[0], s[1]),
    "aten::addmm": lambda s: _mm(s[1], s[2]),
    "aten::addmm_": lambda s: _mm(s[1], s[2]),
    "aten::mv": lambda s: 2.0 * s[0][0] * s[0][1],
    "aten::_scaled_dot_product_flash_attention_for_cpu": lambda s: _attention(s[0], s[1]),
    # recomputed scores, and four products
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": lambda s: (
        2.5 * _attention(s[1], s[2])
    ),
    "aten::linalg_cholesky_ex": lambda s: s[0][-1] ** 3 / 3,
    "aten::cholesky_inverse": lambda s: 2 / 3 * s[0][-1] ** 3,
    "aten::cholesky_solve": lambda s: 2.0 * s[1][-1] ** 2 * s[0][-1],
    "aten::linalg_inv_ex": lambda s: 2.0 * s[0][-1] ** 3,
    "aten::_linalg_solve_ex": lambda s: _solve(s[0], s[1]),
}


if __name__ == "__main__":
    sys.exit(main())
