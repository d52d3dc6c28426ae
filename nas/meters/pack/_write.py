"""Writing the folder: graphs without weights, the list of what to time, and the script."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nas.config import TargetConfig
from nas.errors import ConfigError, PassError
from nas.ir import ChainShape, Phase, as_text
from nas.meters._base import Request
from nas.meters._onnxruntime import part_model
from nas.meters._stacks import stack_copies, stack_name
from nas.meters._table import network_key
from nas.progress import Progress, SilentProgress

WEIGHTS = "weights.bin"
_SCRIPT = Path(__file__).with_name("run.py")
_DTYPES = ("float32", "float16")
# N copies must be long beside the clock's noise, and their weights more than the caches hold.
_LEAST_BYTES = {"cpu": 24 * 2**20, "gpu": 128 * 2**20}
_MOST_COPIES = {"cpu": 16, "gpu": 64}

README = """\
# Latencies of blocks, to be measured here

    pip install numpy onnxruntime-gpu     # onnxruntime on a machine without a GPU
    python run.py                         # writes table.csv; `python run.py --help` has more

Take `table.csv` back and set, in the run's configuration,

    target: {{meter: table, table: table.csv, dtype: {dtype}, batch: {batch}, \
prompt_tokens: {prompt_tokens}}}

The graphs hold no weights; the first call makes {mib:.0f} MiB of random numbers for them.
"""


class Run(BaseModel):
    """One latency to take: the graph of N copies and that of 2N, or one graph that stands alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block: str
    phase: Phase
    copies: int
    graphs: tuple[str, ...]


class Pack(BaseModel):
    """What `requests.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    network: str
    device: Literal["cpu", "gpu"]
    dtype: str
    batch: int
    prompt_tokens: int
    threads: int | None
    repeats: int
    vocab_size: int
    weight_bytes: int
    runs: tuple[Run, ...]


def write_pack(
    folder: Path,
    config: TargetConfig,
    shape: ChainShape,
    requests: Sequence[Request],
    device: Literal["cpu", "gpu"],
    progress: Progress | None = None,
) -> Pack:
    """Write `folder`, which appears when it is complete.

    No weights of the teacher are in it, and run.py needs numpy and ONNX Runtime alone. Raises
    ConfigError for a folder that exists or a dtype that numpy has not, PassError for a full disk.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists already; name another folder for the pack")
    if config.dtype not in _DTYPES:
        raise ConfigError(f"target.dtype: a pack is in {' or '.join(_DTYPES)}, not {config.dtype}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _appearing(folder) as partial:
            writer = _Writer(partial, config, shape, device)
            return writer.write(requests, progress or SilentProgress())
    except OSError as error:
        raise PassError(f"{folder}: the pack could not be written: {error}") from error


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder under another name, which gets its own at the end and is removed on failure."""
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Writer:
    """One pack under way; a graph that several runs use is written once."""

    def __init__(
        self,
        folder: Path,
        config: TargetConfig,
        shape: ChainShape,
        device: Literal["cpu", "gpu"],
    ) -> None:
        self.folder, self.config, self.shape, self.device = folder, config, shape, device
        self._names: dict[str, str] = {}
        self._weight_bytes = 0

    def write(self, requests: Sequence[Request], progress: Progress) -> Pack:
        runs = []
        with progress.task("pack", len(requests)) as advance:
            for request in requests:
                runs.append(self._run(request))
                advance(1)
        pack = Pack(
            network=network_key(self.shape),
            device=self.device,
            vocab_size=as_text(self.shape).vocab_size,
            weight_bytes=self._weight_bytes,
            runs=tuple(runs),
            **self.config.model_dump(
                include={"dtype", "batch", "prompt_tokens", "threads", "repeats"}
            ),
        )
        listing = json.dumps(pack.model_dump(mode="json"), indent=1)
        (self.folder / "requests.json").write_text(listing, encoding="utf-8")
        shutil.copyfile(_SCRIPT, self.folder / "run.py")
        readme = README.format(**pack.model_dump(), mib=pack.weight_bytes / 2**20)
        (self.folder / "README.md").write_text(readme, encoding="utf-8")
        return pack

    def _run(self, request: Request) -> Run:
        least = _LEAST_BYTES[self.device]
        if request.phase == "prefill" and self.device == "cpu":
            least = 0
        most = _MOST_COPIES[self.device]
        on_gpu = self.device == "gpu"
        stacks = stack_copies(self.shape, request, self.config.dtype, least, most, on_gpu=on_gpu)
        graphs = tuple(self._graph(request, copies) for copies in stacks)
        return Run(block=request.key, phase=request.phase, copies=stacks[0], graphs=graphs)

    def _graph(self, request: Request, copies: int) -> str:
        from nas.backends import onnx

        stack = stack_name(request, copies)
        if stack not in self._names:
            name = f"graphs/{stack.replace(' ', '-')}.onnx"
            model = part_model(self.config, self.shape, request, copies, device="meta")
            # External data lies beside the graph, for no runtime looks above it.
            needed = onnx.save_structure(model, self.folder / name, WEIGHTS)
            self._weight_bytes = max(self._weight_bytes, needed)
            self._names[stack] = name
        return self._names[stack]
