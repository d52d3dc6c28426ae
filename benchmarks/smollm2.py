"""SmolLM2-135M at a given speed-up: the student beside its teacher and two baselines.

Runs `examples/smollm2-benchmark.yaml` and writes the table, with its conditions, into the README
beside this file, between the markers of this benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._readme import cell, install
from nas.compiler import compile_run
from nas.config import load_config
from nas.console import Session
from nas.errors import NasError
from nas.report import ModelSummary, Summary, load_summary
from nas.run import RunDirectory

ROOT = Path(__file__).parent


def main() -> int:
    """Run the benchmark; the exit code is that of a `nas run`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="text file; its last tenth judges")
    parser.add_argument("--output", type=Path, required=True, help="run directory")
    parser.add_argument("--config", type=Path, default=ROOT / "../examples/smollm2-benchmark.yaml")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    options = parser.parse_args()
    if not options.text.is_file():
        print(f"{options.text}: no such file; the benchmark needs a text file", file=sys.stderr)
        return 2
    source = f"data.sources=[{{kind: file, path: {options.text.resolve()}}}]"
    try:
        config = load_config(options.config, [source, *options.overrides])
        run = RunDirectory.create(options.output)
        outcome = compile_run(config, run, Session().progress)
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    assert outcome.summary_path is not None
    table = "\n".join(_lines(load_summary(outcome.summary_path), options.text.name))
    install("smollm2", table)
    print(table)
    return 0


def _lines(summary: Summary, text: str) -> Iterable[str]:
    conditions = summary.target.conditions[0]
    yield f"Teacher {summary.teacher.source.split('/')[-1]}, text `{text}`, last tenth held out:"
    yield (
        f"{summary.data.train_tokens:,} training, {summary.data.score_tokens:,} scoring and "
        f"{summary.data.evaluate_tokens:,} evaluation tokens in windows of "
        f"{summary.data.sequence_length}."
    )
    yield (
        f"Latency: {conditions.runtime} {conditions.runtime_version}, {conditions.device}, "
        f"{conditions.threads} threads, {conditions.dtype}, batch {conditions.batch}, "
        f"prompt {conditions.prompt_tokens}."
    )
    steps = summary.student.distillation
    if steps is not None:
        yield f"Distillation: {steps.steps} steps, {steps.tokens:,} tokens for each model."
    minutes = sum(step.seconds for step in summary.passes) / 60
    yield f"All passes together took {minutes:.0f} minutes.\n"
    yield (
        "| model | prefill tok/s | speed-up | predicted error | at pace | decode speed-up "
        "| params M | KL before | KL | perplexity | ratio | top-1 | greedy |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for model in summary.models:
        yield _row(model)
    yield ""


def _row(model: ModelSummary) -> str:
    prefill, decode = model.latency_of("prefill"), model.latency_of("decode")
    before, after = model.quality_before, model.quality
    cells = [
        model.name,
        cell(prefill.tokens_per_s if prefill else None, "{:.0f}"),
        cell((prefill.speedup or 1.0) if prefill else None, "{:.2f}"),
        cell(prefill.error_percent if prefill else None, "{:+.1f} %"),
        cell(prefill.error_at_pace_percent if prefill else None, "{:+.1f} %"),
        cell((decode.speedup or 1.0) if decode else None, "{:.2f}"),
        cell(model.params_m, "{:.1f}"),
        cell(before.kl_nats if before else None, "{:.3f}"),
        cell(after.kl_nats if after else None, "{:.3f}"),
        cell(after.perplexity if after else None, "{:.2f}"),
        cell(after.perplexity_ratio if after else None, "{:.3f}"),
        cell(after.top1_agreement if after else None, "{:.3f}"),
        cell(after.greedy_agreement_tokens if after else None, "{:.1f}"),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    raise SystemExit(main())
