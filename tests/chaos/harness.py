"""Runs that are killed until they are finished, and what is then in their folders.

    python -m tests.chaos.harness --kills 10 --seed 0 --executor process:1

A process that has imported everything forks a child for each attempt, so that an attempt costs its
work and no imports. The child is killed by SIGKILL: after a random time, or at a random write of a
random pass (an audit hook counts the files that it opens for writing, renames and removes). Where
an executor has workers, one of them is killed too in half of the attempts, and the run has to go on
without it until its own turn comes. Runs of every executor are compared with the same undisturbed
run, which was made in process.

All blocks and networks are run and timed for real, but once each, and the times are replaced by
numbers that follow from their names: else no two runs would have the same cost table to choose by.
The ONNX files of the blocks to be timed are kept beside the runs: tracing them anew would be most
of an attempt.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # importing numpy starts no threads: a fork loses them

import nas.compiler
from nas.compiler import PASSES, Pass, compile_run
from nas.config import RunConfig, validate_config
from nas.executors import create_executor
from nas.run import RunDirectory

_IMPORTING = 4.0
"""Seconds that a worker spends on imports, roughly."""
_TIMES = frozenset(
    {"seconds", "seal", "created", "created_at", "peak_memory_mib", "passes", "forecast"}
)
"""Keys that tell of time or of the attempts: how long, when, how much of it in the last attempt.
`seal` is a hash over a record that holds such a key."""
_UNSTABLE = ("report/report.html", "units/report.json", "events.jsonl", "run.lock", "plan.json")
"""The page renders summary.json, times included, and the key of their record is a hash over it; the
log tells of every attempt; a forecast rests on how fast the machine was at its time."""

_PASSES = tuple(p.name for p in PASSES)

Attempt = Callable[[], None]


@dataclass
class Finished:
    """One run from its first attempt to its end."""

    kills: Counter[str] = field(default_factory=Counter)
    """Kills by the pass under way, those of workers included."""
    workers: int = 0
    """Kills of workers."""
    attempts: int = 0
    seconds: float = 0.0


def settings(teacher: Path) -> dict[str, Any]:
    """A run through every pass; all that has a resume of its own is in it."""
    return {
        "name": "chaos",
        "teacher": {"source": str(teacher)},
        "data": {
            "sequence_length": 24,
            "score_sequences": 3,
            "evaluate_tokens": 240,
            "train_tokens": 2400,
        },
        "target": {"prompt_tokens": 8, "output_tokens": 4, "repeats": 2, "threads": 1},
        "budgets": {"params_m": 0.026, "latency_ms": 1000},
        "prune": {"keep": 0.9, "calibrate": 4, "draws": 2},
        "build": {"tokens": 960, "epochs": 1},
        "refine": {"rounds": 2, "draws": 2, "radius": 2},
        "distill": {
            "steps": 6,
            "batch_tokens": 96,
            "micro_batch_tokens": 48,
            "checkpoint_every": 2,
        },
        "export": {"formats": ["huggingface", "onnx"], "greedy_tokens": 4},
        "evaluate": {"generations": 2, "prompt_tokens": 6, "generate_tokens": 6},
    }


def warm_up(config: RunConfig, root: Path) -> float:
    """Seconds of a run in a child, after which this process knows what it imports."""
    import torch

    torch.set_num_threads(1)
    _replace_times()
    _keep_models(root / "models")
    imported = _imported_by(config, root / "imports")
    for module in (m for m in imported if not m.startswith("onnxruntime")):  # it starts a thread
        with contextlib.suppress(Exception):  # some are made up by the package that they stand in
            __import__(module)
    threads = [p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")]
    others = [name for name in threads if name != "jemalloc_bg_thd"]  # that one minds forks itself
    assert len(others) == 1, f"a fork would lose threads: {threads}"
    started = time.perf_counter()
    assert wait(fork(lambda: _run(config, root / "timed"))) == 0
    return time.perf_counter() - started


def undisturbed(config: RunConfig, root: Path) -> Counter[str]:
    """Make a run in one attempt; how often each pass wrote."""
    reader, writer = os.pipe()

    def attempt() -> None:
        writes = _watched(root, None)
        _run(config, root)
        os.write(writer, json.dumps(writes.counts).encode())

    assert wait(fork(attempt)) == 0
    os.close(writer)
    with os.fdopen(reader) as counted:
        return Counter(json.loads(counted.read()))


def disturbed(
    config: RunConfig,
    root: Path,
    source: random.Random,
    seconds: Mapping[str, float],
    writes: Counter[str],
    most: int,
    executor: str = "in-process",
) -> Finished:
    """Kill the run at random, at most `most` times, and let it go on until it is finished.

    `seconds` and `writes` by pass are those of an undisturbed run.
    """
    found, started = Finished(), time.perf_counter()
    while True:
        found.attempts += 1
        killing = sum(found.kills.values()) < most
        by_time = source.random() < 0.5
        at = _some_write(root, source, writes) if killing and not by_time else None
        after = source.uniform(0, _left(root, seconds)) if killing and by_time else None
        child = fork(lambda at=at: _attempt(config, root, at, executor))
        if killing and executor != "in-process" and source.random() < 0.5:
            with _hunting(child, source.uniform(0, 1), root, found):
                code = wait(child, after)
        else:
            code = wait(child, after)
        if code == 0:
            found.seconds = time.perf_counter() - started
            return found
        assert code == -signal.SIGKILL, f"an attempt ended with {code}"
        found.kills[_under_way(root)] += 1


def contents(root: Path) -> dict[str, str]:
    """Digest of every file of a run; JSON without what tells of time."""
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = str(path.relative_to(root))
        if name in _UNSTABLE:
            continue
        data = path.read_bytes()
        if path.suffix == ".json":
            data = json.dumps(_timeless(json.loads(data), root), sort_keys=True).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def units_done(root: Path) -> Counter[tuple[str, str]]:
    """How often the log says that a unit with a key was finished."""
    events = RunDirectory.open(root).events()
    return Counter((e["unit"], e["key"]) for e in events if e["event"] == "unit")


def scratch(root: Path) -> list[str]:
    """What a finished run has no use for."""
    hidden = (p for p in root.rglob("*") if p.name.startswith("."))
    return sorted(str(p.relative_to(root)) for p in [*hidden, *root.glob("checkpoints/*")])


def _timeless(value: Any, root: Path) -> Any:
    """JSON without times, and without digests of files that hold some."""
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if k not in _TIMES}
        if "files" in kept and isinstance(kept["files"], dict):
            stable = (f for f in kept["files"] if not f.endswith((".json", ".html")))
            kept["files"] = [{f: kept["files"][f] for f in stable}, sorted(kept["files"])]
        return {k: _timeless(v, root) for k, v in kept.items()}
    if isinstance(value, list):
        return [_timeless(v, root) for v in value]
    return value.replace(str(root), "RUN") if isinstance(value, str) else value


def pass_seconds(root: Path) -> dict[str, float]:
    """What each pass of a finished run took."""
    events = RunDirectory.open(root).events()
    return {e["name"]: e["seconds"] for e in events if e["event"] == "pass"}


def _left(root: Path, seconds: Mapping[str, float]) -> float:
    """Seconds of the passes that are not finished."""
    names = list(_PASSES)
    return sum(seconds.get(name, 0.0) for name in names[names.index(_under_way(root)) :])


def _some_write(root: Path, source: random.Random, writes: Counter[str]) -> tuple[str, int]:
    """A pass that is not finished, and the number of one of its writes."""
    names = list(_PASSES)
    waiting = [n for n in names[names.index(_under_way(root)) :] if writes[n]]
    name = source.choice(waiting or [names[-1]])
    return name, source.randint(1, max(1, writes[name]))


def _attempt(config: RunConfig, root: Path, at: tuple[str, int] | None, executor: str) -> None:
    _watched(root, at)
    _run(config, root, executor)


@contextlib.contextmanager
def _hunting(child: int, after: float, root: Path, found: Finished) -> Iterator[None]:
    """Meanwhile, kill the first worker that `child` starts, `after` seconds into its life."""
    over = threading.Event()

    def hunt() -> None:
        while not over.wait(0.01):
            for worker in _workers(child):
                # most of a worker's first seconds are imports
                over.wait(_IMPORTING * after if after < 0.3 else _IMPORTING + after)
                with contextlib.suppress(OSError):
                    os.kill(worker, signal.SIGKILL)
                    found.workers += 1
                    found.kills[_under_way(root)] += 1
                return

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield
    finally:
        over.set()
        hunter.join()


def _workers(parent: int) -> list[int]:
    """Processes that work on jobs of `parent`: its own, or those of the Ray cluster it started."""
    found = []
    for child in _children(parent):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes()
            if words.startswith(b"ray::RayWorker") or b"nas.executors._worker" in words:
                found.append(child)
        found += _workers(child)
    return found


def _children(parent: int) -> list[int]:
    try:
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(number) for number in listed.split()]


def _watched(root: Path, last: tuple[str, int] | None) -> _Writes:
    """Count the writes of this process from now on."""
    writes, timed = _Writes(root, last), nas.compiler._timed

    def noted(run: RunDirectory, step: Pass, artefacts: Any) -> float:
        writes.under_way = step.name
        return timed(run, step, artefacts)

    nas.compiler._timed = noted
    sys.addaudithook(writes)
    return writes


def _run(config: RunConfig, root: Path, executor: str = "in-process") -> None:
    compile_run(config, RunDirectory.create(root), executor=create_executor(executor))


class _Writes:
    """Counts what each pass writes, and ends the process at the write `last`."""

    def __init__(self, root: Path, last: tuple[str, int] | None) -> None:
        self.root, self.last = str(root), last
        self.under_way = PASSES[0].name
        self.counts = Counter[str]()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            counted = bool(writes) and self.root in str(path)
        else:
            counted = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
            counted = counted and self.root in str(arguments[0])
        if counted:
            self.counts[self.under_way] += 1
            if (self.under_way, self.counts[self.under_way]) == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def fork(attempt: Attempt) -> int:
    """A child that does `attempt` and ends with 0; its traceback is shown where it fails."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        attempt()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, kill_after: float | None = None) -> int:
    """The exit code of the child, negative for a signal."""
    if kill_after is not None:
        deadline = time.monotonic() + kill_after
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _under_way(root: Path) -> str:
    """The pass after the last that is finished."""
    log = root / "events.jsonl"
    done = set()
    if log.exists() and (root / "run.json").exists():
        events = RunDirectory.open(root).events()
        done = {e.get("name") for e in events if e["event"] == "pass"}
    names = list(_PASSES)
    last = max((names.index(name) for name in done), default=-1)
    return names[min(last + 1, len(names) - 1)]


def _imported_by(config: RunConfig, root: Path) -> list[str]:
    """The modules that a run imports, as a child tells."""
    reader, writer = os.pipe()

    def attempt() -> None:
        _run(config, root)
        with os.fdopen(writer, "w") as out:
            out.write("\n".join(sys.modules))

    child = fork(attempt)
    os.close(writer)
    with os.fdopen(reader) as names:
        found = names.read().split()
    assert wait(child) == 0
    return found


def _replace_times() -> None:
    import nas.meters._onnxruntime
    import nas.meters._stacks
    import nas.passes.layers
    import nas.passes.profile
    from nas.meters import interleaved
    from nas.meters._caches import CacheEvictor
    from nas.profiling import NodeTime, read_node_times

    def replaced(
        runs: Mapping[str, Callable[[], float]], repeats: int, warmup: int = 1
    ) -> dict[str, list[float]]:
        interleaved(runs, 1, 0)
        return {name: [_made_up(name, k) for k in range(repeats)] for name in runs}

    for module in (nas.meters._stacks, nas.passes.profile):
        module.interleaved = replaced  # type: ignore[attr-defined]

    def timed(trace: Path) -> tuple[NodeTime, ...]:
        return tuple(replace(node, ms=_made_up(node.name, 0)) for node in read_node_times(trace))

    nas.passes.layers.read_node_times = timed  # type: ignore[assignment]
    nas.passes.layers.with_measured_figures = lambda profile: profile  # type: ignore[attr-defined]
    nas.meters._onnxruntime.CacheEvictor = partial(CacheEvictor, 2**20)  # type: ignore[misc,assignment]


def _keep_models(folder: Path) -> None:
    """Let attempts share the ONNX models of the stacks that they time, each in a folder."""
    from nas.meters._onnxruntime import OnnxRuntimeMeter
    from nas.meters._stacks import stack_name
    from nas.run import install

    trace = OnnxRuntimeMeter._save

    def kept(self: OnnxRuntimeMeter, request: Any, copies: int, path: Path) -> Path:
        made = folder / stack_name(request, copies)

        def write(temporary: Path) -> None:
            temporary.mkdir()
            trace(self, request, copies, temporary / "model.onnx")

        if not made.exists():
            install(made, write)
        return made / "model.onnx"

    OnnxRuntimeMeter._save = kept  # type: ignore[method-assign]


def _made_up(name: str, sample: int) -> float:
    """Milliseconds that grow with the copies of a stack, so that slopes are positive."""
    copies = int(name.split(" x")[1].split()[0]) if " x" in name else 1
    return copies * (1 + zlib.crc32(name.split(" x")[0].encode()) % 100 / 100) + 0.01 * sample


@dataclass
class Findings:
    """Of a number of kills. Every list is empty where the run directory keeps its promises."""

    kills: int = 0
    runs: int = 0
    attempts: int = 0
    workers: int = 0
    by_pass: Counter[str] = field(default_factory=Counter)
    by_executor: dict[str, Counter[str]] = field(default_factory=dict)
    """Of each executor, kills by pass."""
    seconds: float = 0.0
    undisturbed_seconds: float = 0.0
    differing: list[str] = field(default_factory=list)
    done_twice: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)


def chaos(
    teacher: Path, folder: Path, kills: int, seed: int, most: int, executors: Sequence[str]
) -> Findings:
    """`kills` kills or a few more, some `most` a run, in turn with each of `executors`."""
    config, source = validate_config(settings(teacher), "chaos"), random.Random(seed)
    found = Findings(undisturbed_seconds=warm_up(config, folder))
    whole = folder / "undisturbed"
    writes = undisturbed(config, whole)
    seconds = pass_seconds(whole)
    expected, started = contents(whole), time.perf_counter()
    while found.kills < kills:
        root = folder / f"run-{found.runs}"
        executor = executors[found.runs % len(executors)]
        ended = disturbed(
            config,
            root,
            source,
            seconds,
            writes,
            min(most, kills - found.kills),
            executor,
        )
        found.runs += 1
        found.kills += sum(ended.kills.values())
        found.attempts += ended.attempts
        found.workers += ended.workers
        found.by_pass += ended.kills
        found.by_executor.setdefault(executor, Counter()).update(ended.kills)
        _compare(found, root, expected)
        print(f"{found.kills} kills, {found.runs} runs", file=sys.stderr, flush=True)
    found.seconds = time.perf_counter() - started
    return found


def _save_teacher(folder: Path) -> None:
    from tests.models import save_tiny_teacher

    save_tiny_teacher(folder, "llama")


def _compare(found: Findings, root: Path, expected: Mapping[str, str]) -> None:
    mine = contents(root)
    wrong = {f for f in mine.keys() | expected.keys() if mine.get(f) != expected.get(f)}
    found.differing += [f"{root.name}/{file}" for file in sorted(wrong)]
    twice = [unit for (unit, _), count in units_done(root).items() if count > 1]
    found.done_twice += [f"{root.name}/{unit}" for unit in sorted(twice)]
    found.left_behind += [f"{root.name}/{file}" for file in scratch(root)]


def main(arguments: list[str] | None = None) -> Findings:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--most", type=int, default=20, help="kills of one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--executor", nargs="+", default=["in-process", "process:1"])
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="nas-chaos-") as scratch_folder:
        folder = given.folder or Path(scratch_folder)
        folder.mkdir(parents=True, exist_ok=True)
        teacher = folder / "teacher"
        assert wait(fork(lambda: _save_teacher(teacher))) == 0
        return chaos(teacher, folder, given.kills, given.seed, given.most, given.executor)


if __name__ == "__main__":
    print(json.dumps(vars(main())))
