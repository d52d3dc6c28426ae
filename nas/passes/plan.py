"""Plan: what a run will make, take and need, before any of it is done.

Times are floating-point operations over this machine's own matrix rates, measured in a fraction of
a second in the formats that the passes use, at the share of them that passes were seen to reach.
For a GPU they are operations over the peak of its hardware profile, at the profile's efficiency.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from hardware_profiles import HardwareProfile, load_profile
from nas._words import size_mib
from nas.config import RunConfig
from nas.errors import CapabilityError
from nas.ir import TextShape
from search_spaces import load_space

if TYPE_CHECKING:
    from nas.passes._work import Gflop, Work

_SHARE_LOW, _SHARE_DOUBLE, _SHARE_HEAD = 0.6, 0.4, 0.9
"""Of the rate of large matrix products: reached by walks and Gram matrices, by factorisations, and
by the product of a head, which is large; what its logits then go through is measured."""
_SHARE_GPU_HEAD = 0.3
"""Of the same, product and logits together, on a device that is known by its profile alone."""
_SECONDS_PER_MEASUREMENT, _SECONDS_PER_SOLVE = 2.5, 2.0
_SECONDS_PER_EXPORT, _EXPORT_SECONDS_PER_GIB = 0.5, 23.0
"""Graph, gates and files of a network in float32: what networks of two layers and of 0.5 GiB were
seen to take."""
_SECONDS_PER_TEXT, _SECONDS_PER_REPORT = 2.0, 2.0
_FILE_MIB_PER_S = 1000.0
"""At which a streamed teacher is taken to be read."""
_WORKERS = (1, 2, 4, 8)
_GPU = "h100-sxm"
_GPU_WORKERS = (1, 8, 64)
_NETWORK_GBIT_PER_S = 100
"""Of the run's own process to all workers; profiles know what joins GPUs, not machines."""
_MIB = 2**20


class PlanRow(BaseModel):
    """One pass: units to make, files in MiB, peak memory in MiB, what travels to workers and back
    where an executor has some, and seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pass_name: str
    units: NonNegativeInt
    disk_mib: NonNegativeFloat
    memory_mib: NonNegativeFloat
    transfer_mib: NonNegativeFloat
    seconds: NonNegativeFloat


class PlanSize(BaseModel):
    """The run with `workers` on devices like `device` each: seconds of the passes that are shared
    out, of the whole run, and hours of all devices together, the one of the run's own process and
    waiting included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    workers: int
    build_s: float
    score_s: float
    whole_s: float
    device_hours: float


class Plan(BaseModel):
    """The forecast of a run, with what it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[PlanRow, ...]
    sizes: tuple[PlanSize, ...]
    notes: tuple[str, ...]


def make_plan(config: RunConfig, root: Path | None = None) -> Plan:
    """Forecast a run from the configuration and the teacher's shape; no weights are read.

    `root` is where the run will be, whose disk has to hold it; runs/NAME by default.
    """
    from nas.meters import requests_for
    from nas.passes._work import Work
    from nas.teachers import exceeds_memory, read_shape, require_device

    shape = read_shape(config.teacher)
    if not isinstance(shape, TextShape):
        raise CapabilityError(
            f"nas plan forecasts transformers over text, and the teacher is a {shape.family}; run "
            f"it without a forecast"
        )
    profile = load_profile(config.target.hardware)
    candidates = load_space(config.space).candidates(shape, profile.width_multiple)
    require_device(config.teacher.device)
    stream = config.teacher.stream
    streams = exceeds_memory(config.teacher, shape) if stream == "auto" else stream
    work = Work(config, shape, candidates, streams=streams)
    rates = measured_rates(config.teacher.device, shape.hidden_size)
    tables = 1 + len(config.target.scenarios)
    phases = config.target.phases
    requests = tables * len(requests_for(shape, candidates, phases))
    networks = len(phases) * (1 + work.students) + len(requests_for(shape, (), phases))
    rows = tuple(_rows(work, rates, requests, tables * networks))
    gpu = profile if profile.kind == "gpu" else load_profile(_GPU)
    rest = sum(row.seconds for row in rows if row.pass_name not in ("build", "score"))
    sizes = [_size("this machine", n, work, rates, rest) for n in _WORKERS]
    sizes += [_gpu_size(gpu, n, work) for n in _GPU_WORKERS]
    notes = (
        *_shortages(rows, config, root or Path("runs") / config.name, gpu),
        f"teacher: {shape.layers} layers, {work.teacher_params / 1e6:.0f} M parameters"
        + ("; read from its files slot by slot" if streams else ""),
        f"space: {len(candidates)} candidates of {2 * shape.layers} slots",
        f"this machine: {rates.low / _SHARE_LOW:.0f} GFLOP/s measured in products, "
        f"{rates.double / _SHARE_DOUBLE:.0f} in float64; {_SHARE_LOW:.0%} and "
        f"{_SHARE_DOUBLE:.0%} of it assumed",
        f"{gpu.name}: its profile's peak at {gpu.efficiency:.0%}, nothing measured; without "
        f"measuring, exporting and profiling",
        "workers: each has a device of its own; those of process:N share this machine's cores, and "
        "gain little where one process keeps them busy",
        f"what travels between the run's own process and workers: at an assumed "
        f"{_NETWORK_GBIT_PER_S} Gbit/s, both ways together",
        *_sampling_notes(work),
        *_engine_notes(config),
        "whether the budgets can be met is known after the pass measure, before anything is built",
    )
    return Plan(rows=rows, sizes=tuple(sizes), notes=notes)


def _shortages(
    rows: Iterable[PlanRow], config: RunConfig, root: Path, gpu: HardwareProfile
) -> Iterator[str]:
    """What does not fit, here and in a GPU."""
    from nas._memory import memory_at_hand

    device = config.teacher.device
    at_hand, of_gpu = memory_at_hand(device) / _MIB, 1024 * gpu.memory_gib
    for row in (row for row in rows if row.units):
        takes = f"{row.pass_name} takes {size_mib(row.memory_mib)} of memory"
        if row.memory_mib > at_hand:
            yield f"does not fit: {takes}, {size_mib(at_hand)} are at hand ({device})"
        if row.memory_mib > of_gpu:
            yield f"does not fit into {gpu.name}: {takes}, it has {size_mib(of_gpu)}"
    wanted, free = sum(row.disk_mib for row in rows), _free_mib(root)
    if wanted > free:
        yield f"does not fit: the run takes {size_mib(wanted)} of disk, {size_mib(free)} are free"


def _free_mib(folder: Path) -> float:
    """On the disk of a folder that need not be there yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free / _MIB


def _sampling_notes(work: Work) -> Iterator[str]:
    if reads := work.sampling_reads_mib:
        yield (
            f"data: text that a streamed teacher writes takes its weights once a token, "
            f"{reads / 1024:,.0f} GiB at an assumed {_FILE_MIB_PER_S / 1000:.0f} GB/s"
        )


def _engine_notes(config: RunConfig) -> Iterator[str]:
    from nas.backends.tensorrt import ENGINE_FORMATS

    if engines := [name for name in config.export.formats if name in ENGINE_FORMATS]:
        yield (
            f"export: {' and '.join(engines)} tune engines for minutes each; that is not forecast"
        )


@dataclass(frozen=True)
class Rates:
    """GFLOP/s that passes can count on, by what they do; see `Gflop`."""

    low: float
    double: float
    head: float

    def seconds(self, work: Gflop) -> float:
        return work.low / self.low + work.double / self.double + work.head / self.head


def measured_rates(device: str, hidden: int) -> Rates:
    """Of this machine: a measured matrix product times a seen share. Each logit is a product of
    `hidden` channels, and is then looked at, which is measured as well."""
    import torch

    from nas._numerics import compute_dtype

    low = _matrix_gflops(device, compute_dtype(device))
    double = _matrix_gflops(device, torch.float64)
    head = 1 / (1 / (_SHARE_HEAD * low) + 1e9 / (2 * hidden) * _logit_seconds(device))
    return Rates(_SHARE_LOW * low, _SHARE_DOUBLE * double, head)


def profile_rates(profile: HardwareProfile) -> Rates:
    """Of a device that is known by its profile alone; logits are bounded by its memory.

    Float64 is taken as fast as float32, which holds for the tensor cores of data-centre GPUs; on
    others factorisations take longer than forecast.
    """
    peak = {k: 1e3 * v * profile.efficiency for k, v in profile.peak_tflops.items()}
    low = max(peak.get(kind, 0.0) for kind in ("bfloat16", "float16", "float32"))
    return Rates(low, peak.get("float32", low), _SHARE_GPU_HEAD * low)


def _matrix_gflops(device: str, dtype: object) -> float:
    import torch

    assert isinstance(dtype, torch.dtype)
    size = 1024
    own = torch.Generator(device).manual_seed(0)  # a run draws the same numbers after a forecast
    a = torch.randn(size, size, device=device, generator=own).to(dtype)
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        float((a @ a).float().sum())
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def _logit_seconds(device: str) -> float:
    """What scoring does with a logit, by a head of so few channels that its product is nothing."""
    import torch
    from torch.nn.utils import skip_init  # else the head would draw from the run's own numbers

    from nas._numerics import compute_dtype
    from nas.objectives import ReferenceKl

    channels, vocabulary, tokens = 4, 49152, 256
    own = torch.Generator(device).manual_seed(0)
    inputs = torch.randn(1, tokens, channels, device=device, generator=own)
    kind = {"device": device, "dtype": compute_dtype(device)}
    head = skip_init(torch.nn.Linear, channels, vocabulary, bias=False, **kind)
    head.weight.data.normal_(generator=own)
    divergence = ReferenceKl(inputs, head)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        float(divergence(inputs.flip(1)))
        best = min(best, time.perf_counter() - started)
    return best / (tokens * vocabulary)


def _rows(work: Work, rates: Rates, requests: int, networks: int) -> Iterator[PlanRow]:
    """`networks`: measurements of whole networks, and of the teacher's blocks beside them."""
    teacher, held = work.teacher_mib, work.resident_mib
    refits = bool(work.config.assemble.refit_tokens)
    yield _row("data", 1, work.data_mib, held, _SECONDS_PER_TEXT + _sampling_s(work, rates))
    yield _row("measure", requests, 0, 1500, requests * _SECONDS_PER_MEASUREMENT)
    yield _row("prune", *work.drafts, work.build_mib, rates.seconds(work.prune))
    build = rates.seconds(work.walk + work.build_jobs)
    disk, moved = work.built_mib + work.scratch_mib, work.build_transfer_mib
    yield _row("build", work.survivors, disk, work.build_mib, build, moved)
    score, moved = rates.seconds(work.score_walk + work.score_jobs), work.score_transfer_mib
    yield _row("score", len(work.blocks), 1, work.score_mib, score, moved)
    yield _row("solve", 1, 1, 200, _SECONDS_PER_SOLVE + rates.seconds(work.depth_cuts))
    rounds = min(1, work.config.refine.rounds)
    yield _row("refine", rounds, 1, 2 * held, rates.seconds(work.refine))
    yield _row(
        "assemble",
        work.students if refits else 0,
        work.students * teacher / 4 if refits else 0,
        work.refit_mib if refits else 0,
        rates.seconds(work.refit),
    )
    students = work.students * teacher
    yield _row("distill", work.students, students, work.distill_mib, rates.seconds(work.distill))
    exports = work.exports * (_SECONDS_PER_EXPORT + teacher / 1024 * _EXPORT_SECONDS_PER_GIB)
    yield _row("export", work.exports, work.exports * teacher, 2 * teacher, exports)
    profiled = networks * _SECONDS_PER_MEASUREMENT if work.profiles else 0
    sessions = (1 + work.students) * teacher if work.profiles else 0
    yield _row("profile", work.profiles, 1, sessions, profiled)
    yield _row("evaluate", 2, 1, students, rates.seconds(work.evaluate))
    yield _row("report", 1, 1, 200, _SECONDS_PER_REPORT)


def _sampling_s(work: Work, rates: Rates) -> float:
    return rates.seconds(work.sampling) + work.sampling_reads_mib / _FILE_MIB_PER_S


def _size(device: str, workers: int, work: Work, rates: Rates, rest_s: float) -> PlanSize:
    """The owner of the run walks the teacher while workers do the jobs of slots that it has passed;
    scores that are no such jobs are its own work. All that travels goes through the owner."""
    walk, jobs = rates.seconds(work.walk), rates.seconds(work.build_jobs)
    build_s = walk + jobs
    if workers > 1:
        build_s = max(walk, jobs / workers, transfer_s(work.build_transfer_mib))
    score_s = rates.seconds(work.score_walk + work.score_jobs)
    if workers > 1 and work.scored_by_workers:
        shared_s = rates.seconds(work.score_walk) + rates.seconds(work.score_jobs) / workers
        score_s = max(shared_s, transfer_s(work.score_transfer_mib))
    devices = workers + (workers > 1)  # the run's own process has one, too
    hours = (devices * (build_s + score_s) + rest_s) / 3600
    return PlanSize(
        device=device,
        workers=workers,
        build_s=round(build_s, 1),
        score_s=round(score_s, 1),
        whole_s=round(build_s + score_s + rest_s, 1),
        device_hours=round(hours, 3),
    )


def transfer_s(mib: float) -> float:
    """Seconds that so much takes between the run's own process and its workers, assumed."""
    return mib * _MIB / (_NETWORK_GBIT_PER_S / 8 * 1e9)


def _gpu_size(profile: HardwareProfile, workers: int, work: Work) -> PlanSize:
    rates = profile_rates(profile)
    rest = work.prune + work.depth_cuts + work.refine + work.refit + work.distill + work.evaluate
    rest_s = _sampling_s(work, rates) + rates.seconds(rest)
    return _size(profile.name, workers, work, rates, rest_s)


def _row(
    name: str,
    units: int,
    disk_mib: float,
    memory_mib: float,
    seconds: float,
    transfer_mib: float = 0.0,
) -> PlanRow:
    return PlanRow(
        pass_name=name,
        units=units,
        disk_mib=round(disk_mib, 1),
        memory_mib=round(memory_mib, 1),
        transfer_mib=round(transfer_mib, 1),
        seconds=round(seconds, 1),
    )
