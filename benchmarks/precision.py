"""Structure and eight bits against structure alone, at equal measured prefill latency.

    python benchmarks/precision.py --output RUN [--text FILE] [--speedups 1.5 2.0] [--steps N]

One library of SmolLM2-135M (the demo's settings and space, attention and feed-forward in `float`
and in `int8_dynamic`) and one cost table in ONNX Runtime. For each speed-up the problem is solved
with float blocks alone and with all; the second gets the first's predicted latency as its limit, so
that it may not be slower. Beside them: the teacher with every block in eight bits, and, for the
last speed-up, the student in eight bits trained in floating point and rounded afterwards. All are
refitted and distilled in lockstep from the same batches, exported behind their gates, timed in
turns, and judged on held-out text. The table goes into the README beside this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._readme import install
from nas.compiler import compile_run
from nas.config import load_config
from nas.console import Session
from nas.errors import NasError
from nas.ir import (
    Architecture,
    BlockSpec,
    Budget,
    KeepTeacher,
    Option,
    Problem,
    Skip,
    in_float,
    precision_of,
)
from nas.passes import Artefacts, PassContext
from nas.passes.assemble import assemble_students, assembled
from nas.passes.evaluate import decoder
from nas.passes.measure import total_costs
from nas.passes.solve import architecture_of, make_problem
from nas.passes.students import distill_students, distilled
from nas.run import RunDirectory
from nas.solvers import MipSolver

ROOT = Path(__file__).parent
SPACE = """\
attention:
  kv_heads: []
  query_heads_percent: [67, 33]
  linear: true
  precision: [float, int8_dynamic]
ffn:
  width_percent: [75, 50, 25]
  linear: true
  precision: [float, int8_dynamic]
"""
SETTINGS = (
    "target.phases=[prefill]",
    "baselines=[]",
    "budgets={speedup: 1.01}",
    "refine.rounds=0",
    "export.formats=[onnx]",
    "data.evaluate_tokens=8192",
)
LATENCY = "prefill_ms"
FLOAT, EIGHT, ROUNDED, WHOLE = "structure", "structure + int8", "rounded afterwards", "int8 alone"


def main() -> int:
    """Run the benchmark; the exit code is that of a `nas run`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="run directory")
    parser.add_argument("--text", type=Path, help="text file in the place of Python's own pages")
    parser.add_argument("--config", type=Path, default=ROOT / "../examples/smollm2-demo.yaml")
    parser.add_argument("--speedups", type=float, nargs="+", default=[1.5, 2.0])
    parser.add_argument("--steps", type=int, default=24, help="of distillation")
    parser.add_argument("--rounds", type=int, default=15, help="of timing")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--quick", action="store_true", help="the README stays")
    options = parser.parse_args()
    if options.text is not None and not options.text.is_file():
        print(f"{options.text}: no such file; leave --text out", file=sys.stderr)
        return 2
    began = time.perf_counter()
    options.output.mkdir(parents=True, exist_ok=True)
    space = options.output / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    text = (
        [f"data.sources=[{{kind: file, path: {options.text.resolve()}}}]"] if options.text else []
    )
    given = [*SETTINGS, *text, f"space={space.resolve()}", f"distill.steps={options.steps}"]
    try:
        config = load_config(options.config, [*given, *options.overrides])
        run = RunDirectory.create(options.output / "run")
        compile_run(config, run, Session().progress, stop="score")
        study = Study(PassContext(config, run, Session().progress), options.speedups)
        rows = study.rows(options.rounds)
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    minutes = (time.perf_counter() - began) / 60
    (options.output / "precision.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    table = "\n".join(lines(study, rows, minutes))
    print(table)
    if not options.quick:
        install("precision", table)
    return 0


class Study:
    """A library with scores and costs, and the students that are chosen from it."""

    def __init__(self, context: PassContext, speedups: Sequence[float]) -> None:
        self.context = context
        self.artefacts = Artefacts(context)
        self.candidates = self.artefacts.usable
        self.problem = make_problem(
            context, self.artefacts.costs, self.candidates, self.artefacts.scores
        )
        self.teacher = total_costs(
            context,
            self.artefacts.costs,
            [(slot, KeepTeacher()) for slot in context.shape.slots()],
        )
        self.students: dict[str, Architecture] = {}
        for speedup in speedups:
            limit = self.teacher[LATENCY] / speedup
            alone = self.solve(limit, ("float",))
            self.students[f"{FLOAT} {speedup:g}"] = alone
            reached = self.predicted(alone)
            self.students[f"{EIGHT} {speedup:g}"] = self.solve(reached, ("float", "int8_dynamic"))
        last = self.students[f"{EIGHT} {speedups[-1]:g}"]
        self.students[f"{ROUNDED} {speedups[-1]:g}"] = self.in_floats(last)
        self.students[WHOLE] = self.eight_bits_alone()

    def solve(self, limit: float, precisions: Sequence[str]) -> Architecture:
        """The best student under a predicted latency, of blocks in these precisions."""
        allowed = {c.id for c in self.candidates if precision_of(c.spec) in precisions}

        def known(slot: str, option: Option) -> bool:
            return option.variant == "teacher" or f"{slot}/{option.variant}" in allowed

        slots = {
            slot: tuple(o for o in options if known(slot, o))
            for slot, options in self.problem.slots.items()
        }
        fixed = self.problem.budgets[0].fixed
        budget = Budget(name="prefill", cost=LATENCY, limit=limit, fixed=fixed)
        solution = MipSolver().solve(Problem(slots=slots, budgets=(budget,)))
        return architecture_of(self.context.shape, self.candidates, solution)

    def predicted(self, architecture: Architecture) -> float:
        """Milliseconds by the cost table."""
        shape = self.context.shape
        return total_costs(self.context, self.artefacts.costs, architecture.items(shape))[LATENCY]

    def in_floats(self, architecture: Architecture) -> Architecture:
        """The same structures in floating point; the teacher's own where nothing else differs."""
        shape, found = self.context.shape, dict[str, BlockSpec]()
        for slot, spec in architecture.items(shape):
            structure = in_float(spec)
            if structure not in (KeepTeacher(), shape.resolve(slot, KeepTeacher())):
                found[slot.id] = structure
        return Architecture(choices=found)

    def eight_bits_alone(self) -> Architecture:
        """The teacher's own blocks, all in eight bits."""
        shape = self.context.shape
        return Architecture(
            choices={
                c.slot.id: c.spec
                for c in self.candidates
                if precision_of(c.spec) != "float"
                and in_float(c.spec) == shape.resolve(c.slot, KeepTeacher())
            }
        )

    def rows(self, rounds: int) -> list[dict[str, Any]]:
        """Distil, export, time and judge; a row a model."""
        names = {f"s{i}": name for i, name in enumerate(self.students)}
        students = {key: self.students[name] for key, name in names.items()}
        keys = assemble_students(self.context, students, self.artefacts.block_keys)
        distill_students(self.context, students, keys)
        chains = {name: distilled(self.context, key, students[key]) for key, name in names.items()}
        for name in chains:
            if name.startswith(ROUNDED):
                chains[name] = self.rounded(name, chains[name])
        before = {
            name: assembled(self.context, key, students[key])
            for key, name in names.items()
            if not name.startswith(ROUNDED)
        }
        kl_before, kl_after = self.judge(before), self.judge(chains)
        measured, gates = self.measure(chains, rounds)
        return [
            {
                "name": name,
                "predicted_ms": self.teacher[LATENCY]
                if name == "teacher"
                else self.predicted(self.chosen(name)),
                "measured_ms": measured[name],
                "gate": gates.get(name),
                "kl_before": kl_before.get(name),
                "kl": kl_after.get(name),
                "memory_mib": self.memory(name),
                "blocks": self.blocks(name),
            }
            for name in measured
        ]

    def chosen(self, name: str) -> Architecture:
        """What a model is; the one that is rounded afterwards is the student in eight bits."""
        return self.students[name.replace(ROUNDED, EIGHT)] if name != "teacher" else Architecture()

    def rounded(self, name: str, trained: Any) -> Any:
        """The student in eight bits on the weights of its distilled float form."""
        from nas.chain import make_chain

        student = make_chain(self.context.shape, self.chosen(name))
        student.load_state_dict(trained.state_dict())
        return student.eval().requires_grad_(False)

    def judge(self, chains: Mapping[str, Any]) -> dict[str, list[float]]:
        """Held-out KL in nats a token, and its standard error over windows."""
        from nas._numerics import compute_dtype
        from nas.evaluation import language_quality

        teacher = decoder(self.context.teacher.chain)
        decoders = {name: decoder(chain) for name, chain in chains.items()}
        dtype = compute_dtype(str(teacher.device))
        found = language_quality(teacher, decoders, self.context.text.evaluate, dtype=dtype)
        return {
            name: [quality.kl_mean, quality.kl_standard_error or 0.0]
            for name, quality in found.items()
        }

    def measure(
        self, chains: Mapping[str, Any], rounds: int
    ) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Median prefill of every model and the teacher, timed in turns, and the gates' figures."""
        from nas.backends.onnx import check_onnx, export_onnx
        from nas.backends.onnxruntime import OnnxDecoder

        target, folder = self.context.config.target, self.context.run.path("benchmark")
        open_models, gates = {}, {}
        for name, chain in {"teacher": self.context.teacher.chain, **chains}.items():
            if name.startswith(ROUNDED):
                continue  # the same graph as that of the student beside it
            artifact = export_onnx(decoder(chain), folder / name.replace(" ", "-"))
            report = check_onnx(
                artifact, decoder(chain), self.context.text.evaluate[:2, :48], greedy_tokens=8
            )
            gates[name] = [report.max_logits_difference, report.limit]
            open_models[name] = OnnxDecoder(artifact.path, target.threads)
        samples: dict[str, list[float]] = {name: [] for name in open_models}
        for turn in range(rounds + 2):
            for name, model in open_models.items():
                ms = model.time_prefill(target.batch, target.prompt_tokens)
                if turn >= 2:
                    samples[name].append(ms)
        medians = {name: statistics.median(values) for name, values in samples.items()}
        for name in chains:
            if name.startswith(ROUNDED):
                medians[name] = medians[name.replace(ROUNDED, EIGHT)]
        return medians, gates

    def memory(self, name: str) -> float:
        shape = self.context.shape
        choice = self.chosen(name).items(shape)
        return total_costs(self.context, self.artefacts.costs, choice)["memory_mib"]

    def blocks(self, name: str) -> dict[str, int]:
        """How many slots keep the teacher's structure, are narrower or fewer, or are left out; and
        how many are in eight bits."""
        shape, counts = self.context.shape, {"own": 0, "smaller": 0, "skipped": 0, "int8": 0}
        for slot, spec in self.chosen(name).items(shape):
            own = in_float(shape.resolve(slot, spec)) == shape.resolve(slot, KeepTeacher())
            counts["skipped" if isinstance(spec, Skip) else "own" if own else "smaller"] += 1
            counts["int8"] += precision_of(spec) != "float"
        return counts


def lines(study: Study, rows: Sequence[Mapping[str, Any]], minutes: float) -> Iterator[str]:
    """The table."""
    context, by_name = study.context, {row["name"]: row for row in rows}
    conditions, config = study.artefacts.costs.conditions("prefill"), context.config
    teacher_ms = by_name["teacher"]["measured_ms"]
    yield (
        f"SmolLM2-135M, {len(study.candidates)} candidates; {conditions.runtime} "
        f"{conditions.runtime_version}, {conditions.device}, {conditions.threads} threads, batch "
        f"{conditions.batch}, prefill of {conditions.prompt_tokens} tokens."
    )
    yield (
        f"Distillation: {config.distill.steps} steps of {config.distill.batch_tokens} tokens, "
        f"{context.text.evaluate.numel():,} held-out tokens; {minutes:.0f} minutes in all.\n"
    )
    yield (
        "| model | predicted ms | measured ms | speed-up | memory MiB | smaller, skipped, in int8 "
        "| KL before | KL after distillation | gate: logits apart, allowed |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        counts = row["blocks"]
        cells = [
            row["name"],
            f"{row['predicted_ms']:.0f}",
            f"{row['measured_ms']:.0f}",
            f"{teacher_ms / row['measured_ms']:.2f}",
            f"{row['memory_mib']:.0f}",
            f"{counts['smaller']}, {counts['skipped']}, {counts['int8']}",
            _with_error(row["kl_before"]),
            _with_error(row["kl"]),
            "{:.2g}, {:.2g}".format(*row["gate"]) if row["gate"] else "",
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _with_error(found: Sequence[float] | None) -> str:
    return "" if found is None else f"{found[0]:.4f} ± {found[1]:.4f}"


if __name__ == "__main__":
    sys.exit(main())
