"""all-MiniLM-L6-v2 at a given speed-up: the student beside its teacher, baselines and AutoDistil.

Runs `examples/minilm.yaml` on the first nine tenths of a text. The sentences of the last tenth,
which no pass has seen, make pairs: neighbours, which tend to be near, and strangers. Each model's
cosines of the pairs are ranked against the teacher's. AutoDistil's agnostic pick at the same
speed-up is finished by as many tokens. The table goes into the README beside this file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._agnostic import Pick, agnostic_pick
from benchmarks._readme import cell, install
from nas.compiler import compile_run
from nas.config import load_config
from nas.console import Session
from nas.errors import NasError
from nas.evaluation import rank_pairs, read_pairs
from nas.passes import Artefacts, PassContext
from nas.passes.evaluate import encoder
from nas.passes.students import distilled
from nas.report import ModelSummary, Summary, load_summary
from nas.run import RunDirectory

ROOT = Path(__file__).parent
HELD_OUT = 0.1
STRANGERS = 1000
AUTODISTIL = "AutoDistil's pick"


def main() -> int:
    """Run the benchmark; the exit code is that of a `nas run`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="text file; its last tenth judges")
    parser.add_argument("--output", type=Path, required=True, help="run directory")
    parser.add_argument("--config", type=Path, default=ROOT / "../examples/minilm.yaml")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    options = parser.parse_args()
    if not options.text.is_file():
        print(f"{options.text}: no such file; the benchmark needs a text file", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    train, pairs = split(options.text, options.output)
    source = f"data.sources=[{{kind: file, path: {train.resolve()}}}]"
    try:
        config = load_config(options.config, [source, *options.overrides])
        run = RunDirectory.create(options.output / "run")
        outcome = compile_run(config, run, Session().progress)
        context = PassContext(config, run, Session().progress)
        speedup = config.budgets.speedup
        assert speedup is not None
        pick = agnostic_pick(context, options.output / "autodistil", speedup)
        ranks = judge(context, pairs, pick)
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    assert outcome.summary_path is not None
    summary = load_summary(outcome.summary_path)
    table = "\n".join([*lines(summary, options.text.name, ranks, pairs), row_of(pick, ranks), ""])
    install("minilm", table)
    print(table)
    return 0


def split(text: Path, folder: Path) -> tuple[Path, Path]:
    """The training text, and pairs of the sentences of the held-out end; written to `folder`."""
    rows = text.read_text(encoding="utf-8").splitlines()
    cut = round((1 - HELD_OUT) * len(rows))
    train = folder / "train.txt"
    train.write_text("\n".join(rows[:cut]), encoding="utf-8")
    sentences = [s for row in rows[cut:] for s in _sentences(row)]
    chosen = random.Random(0)
    pairs = [*itertools.pairwise(sentences)]
    pairs += [tuple(chosen.sample(sentences, 2)) for _ in range(STRANGERS)]
    path = folder / "pairs.jsonl"
    listing = (json.dumps({"a": a, "b": b}) for a, b in pairs)
    path.write_text("\n".join(listing), encoding="utf-8")
    return train, path


def _sentences(row: str) -> list[str]:
    """The sentences of a paragraph, headings and scraps left out."""
    row = re.sub(r" @(\W)@ ", r"\1", row.strip())
    if row.startswith("="):
        return []
    return [s.strip() for s in re.split(r"(?<= [.?!]) ", row) if len(s.split()) >= 6]


def judge(context: PassContext, pairs: Path, pick: Pick) -> dict[str, float]:
    """Spearman of every model's cosines with the teacher's."""
    artefacts = Artefacts(context)
    models = {"teacher": encoder(context.teacher.chain)}
    for name, architecture in artefacts.architectures.items():
        models[name] = encoder(distilled(context, name, architecture))
    models[AUTODISTIL] = pick.chain
    return rank_pairs(read_pairs(pairs), models, context.teacher.tokenizer)


def lines(summary: Summary, text: str, ranks: dict[str, float], pairs: Path) -> Iterable[str]:
    conditions = summary.target.conditions[0]
    count = len(pairs.read_text(encoding="utf-8").splitlines())
    yield f"Text `{text}`, its last tenth kept apart for {count:,} pairs of sentences;"
    yield (
        f"{summary.data.train_tokens:,} training and {summary.data.score_tokens:,} scoring tokens "
        f"in texts of {summary.data.sequence_length} tokens."
    )
    yield (
        f"Latency: {conditions.runtime} {conditions.runtime_version}, {conditions.device}, "
        f"{conditions.threads} threads, {conditions.dtype}, batch {conditions.batch}, "
        f"{conditions.prompt_tokens} tokens a text."
    )
    steps = summary.student.distillation
    if steps is not None:
        yield f"Distillation: {steps.steps} steps, {steps.tokens:,} tokens for each model."
    minutes = sum(step.seconds for step in summary.passes) / 60
    yield f"All passes together took {minutes:.0f} minutes.\n"
    yield (
        "| model | texts/s | speed-up | predicted error | at pace | params M | 1 - cos before "
        "| 1 - cos | Spearman of windows | recall@10 | Spearman of pairs |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for model in summary.models:
        yield row(model, conditions.prompt_tokens, ranks[model.name])


def row(model: ModelSummary, tokens: int, rank: float) -> str:
    latency, before, after = model.latency_of("prefill"), model.quality_before, model.quality
    rate = latency.tokens_per_s if latency else None
    cells = [
        model.name,
        cell(rate / tokens if rate else None, "{:.0f}"),
        cell((latency.speedup or 1.0) if latency else None, "{:.2f}"),
        cell(latency.error_percent if latency else None, "{:+.1f} %"),
        cell(latency.error_at_pace_percent if latency else None, "{:+.1f} %"),
        cell(model.params_m, "{:.1f}"),
        cell(before.cosine_distance if before else None, "{:.4f}"),
        cell(after.cosine_distance if after else None, "{:.4f}"),
        cell(after.similarity_spearman if after else None, "{:.4f}"),
        cell(after.recall_at_10 if after else None, "{:.3f}"),
        f"{rank:.4f}",
    ]
    return "| " + " | ".join(cells) + " |"


def row_of(pick: Pick, ranks: dict[str, float]) -> str:
    """AutoDistil's pick, timed in turns with the teacher after the run."""
    name = f"{AUTODISTIL} ({pick.spec.key})"
    params_m = pick.spec.size().params / 1e6
    cells = [name, "", f"{pick.pace.speedup:.2f}", "", "", f"{params_m:.1f}", "", "", "", ""]
    return "| " + " | ".join([*cells, f"{ranks[AUTODISTIL]:.4f}"]) + " |"


if __name__ == "__main__":
    raise SystemExit(main())
