"""Every parser of ours as a function of a folder, with a whole file to start from.

Each `read_*` raises a NasError or returns; what it returns has been looked at as a pass would, so
that a value which only seems fine is found here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hardware_profiles import load_profile
from nas.config import FileText, JsonlText, TargetConfig, TeacherConfig, load_config
from nas.data._file import FileSource
from nas.data._jsonl import JsonlSource
from nas.data._stream import token_stream
from nas.evaluation import read_items
from nas.ir import Architecture
from nas.libraries import Query, read_library
from nas.libraries._problem import make_problem
from nas.meters import create_meter
from nas.profiling import by_layer, read_node_times
from nas.readers import open_run, read_config, read_status
from nas.report import load_summary
from nas.run import RunDirectory, json_writer
from nas.teachers import read_shape
from nas.teachers._chain import chain_from_source
from nas.teachers._resolve import resolve
from search_spaces import load_space
from tests.chains import tiny_shape
from tests.libraries.files import puzzle_data, write_csv
from tests.meters.costs import conditions
from tests.models import tiny_tokenizer
from tests.profiling.test_profiling import trace
from tests.report.example_summary import example_summary

CONFIG: dict[str, Any] = {
    "name": "fuzzed",
    "teacher": {"source": "teacher", "dtype": "float32"},
    "data": {"sources": [{"kind": "jsonl", "path": "a.jsonl"}], "sequence_length": 64},
    "space": "decoder",
    "target": {"hardware": "local", "prompt_tokens": 16, "phases": ["prefill", "decode"]},
    "budgets": {"latency_ms": {"prefill": 12.5, "decode": 3}, "memory_mib": 100},
    "build": {"tokens": 4096},
    "solve": {"time_limit_s": 60.0},
    "evaluate": {"tasks": ["b.jsonl"], "limit": 3},
    "seed": 7,
}
SPACE: dict[str, Any] = {
    "attention": {"kv_heads": "divisors", "query_heads_percent": [50], "groups_percent": [50]},
    "ffn": {"width_percent": [25, 50, 75], "linear": True},
    "layers": [0, 1, 3],
}
PROFILE: dict[str, Any] = {
    "name": "board",
    "description": "a board",
    "vendor": "none",
    "kind": "gpu",
    "sm": 89,
    "memory_gib": 8,
    "bandwidth_gb_per_s": 100,
    "peak_tflops": {"float32": 10, "float16": 20},
    "launch_overhead_us": 5,
    "width_multiple": 16,
    "tensorrt_rtx_sms": [89],
    "sources": {"sm": "a data sheet"},
}
PROBLEM: dict[str, Any] = {
    "slots": {
        "layers.0.ffn": [
            {"variant": "teacher", "loss": 0.0, "costs": {"params_m": 2.0}},
            {"variant": "skip", "loss": 0.5, "costs": {"params_m": 0}},
        ]
    },
    "budgets": [{"name": "params_m", "cost": "params_m", "limit": 3, "sense": "max", "fixed": 1}],
    "scores": {"layers.0.ffn/skip": [0.25, 0.75]},
}
ROW = {"block": "ffn/w20", "latency_ms": 3.0} | conditions().model_dump()
TABLE: dict[str, Any] = {
    "entries": {
        "embed": {
            "prefill": {
                "samples_ms": [0.5, 0.75],
                "conditions": conditions().model_dump(),
                "source": "measured",
            }
        }
    }
}
PLAN: dict[str, Any] = {
    "rows": [
        {
            "pass_name": "build",
            "units": 1,
            "disk_mib": 3.5,
            "memory_mib": 120.0,
            "transfer_mib": 0.0,
            "seconds": 12.5,
        }
    ],
    "sizes": [],
    "notes": ["a note"],
}
CHOICE = {"query": "Question: 2 + 2?", "choices": ["four", "five"], "gold": 0}
CLOZE = {"context": "two and two are", "continuation": "four"}
RECORD: dict[str, Any] = {
    "name": "build/a",
    "key": "k",
    "files": {"library/a.json": "0" * 64},
    "data": {"error": 0.5},
    "seconds": 1.5,
}


@dataclass(frozen=True)
class Target:
    """A file of a folder, and what reads it. `tree`: the file as JSON-like data, where it is."""

    name: str
    file: str
    read: Callable[[Path], object]
    content: bytes
    tree: Any = None

    def written(self, tree: Any) -> bytes:
        """The file for another tree; NaN and infinities are spelled as the format does."""
        if self.file.endswith(".yaml"):
            return yaml.safe_dump(tree, sort_keys=False).encode("utf-8", "surrogatepass")
        text = json.dumps(tree)
        return text.encode()


def _target(name: str, file: str, read: Callable[[Path], object], tree: Any) -> Target:
    blank = Target(name, file, read, b"", tree)
    return Target(name, file, read, blank.written(tree), tree)


def _read_config(folder: Path) -> None:
    config = load_config(folder / "c.yaml")
    for section in (config.budgets, config.build, config.solve, config.distill):
        numbers = (v for v in vars(section).values() if isinstance(v, float))
        assert all(map(math.isfinite, numbers))
    run = RunDirectory.create(folder / "run")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    run.path("config.resolved.yaml").write_text(text, encoding="utf-8")
    assert read_config(run) == config


def _read_space(folder: Path) -> None:
    shape = tiny_shape()
    for candidate in load_space(str(folder / "s.yaml")).candidates(shape, 4):
        assert candidate.slot in shape.slots()


def _read_library(folder: Path) -> None:
    (path,) = folder.glob("lib.*")
    library = read_library(path)
    query = Query(objective=None if library.objective else "kl_div")
    problem = make_problem(library, query)
    assert all(math.isfinite(o.loss) for options in problem.slots.values() for o in options)


def _read_table(folder: Path) -> None:
    (path,) = folder.glob("t.*")
    settings = {"meter": "table", "table": path, "prompt_tokens": 16, "phases": ["prefill"]}
    meter = create_meter(TargetConfig.model_validate(settings), tiny_shape())
    entries = meter.table.entries.values()  # type: ignore[attr-defined]
    assert all(
        math.isfinite(row[p].median_ms) and row[p].median_ms >= 0 for row in entries for p in row
    )


def _read_items(folder: Path) -> None:
    for item in read_items(folder / "b.jsonl"):
        for context, continuation in item.pairs():
            tiny_tokenizer()(context + continuation)


def _read_jsonl(folder: Path) -> None:
    token_stream([JsonlSource(JsonlText(path=folder / "a.jsonl"))], tiny_tokenizer())


def _read_text(folder: Path) -> None:
    token_stream([FileSource(FileText(path=folder / "a.txt"))], tiny_tokenizer())


def _read_record(folder: Path) -> None:
    run = _run(folder)
    read_status(run)
    record = run.fetch("build/a", "k")
    assert record is None or isinstance(record.files, dict)


def _read_events(folder: Path) -> None:
    run = _run(folder)
    run.event("later")
    assert [*run.events()][-1]["event"] == "later"
    read_status(run)


def _read_marker(folder: Path) -> None:
    RunDirectory.create(open_run(folder).root)


def _read_plan(folder: Path) -> None:
    run = _run(folder)
    run.store("build/a", "k", {"library/a.json": json_writer({"value": 1})})
    run.event("pass", name="build", units=1, seconds=0.25, peak_memory_mib=100.0)
    for row in read_status(run).forecast:
        assert row.error_percent is None or math.isfinite(row.error_percent)


def _run(folder: Path) -> RunDirectory:
    if not (folder / "run.json").exists():
        RunDirectory.create(folder / "other")
        (folder / "other" / "run.json").rename(folder / "run.json")
    run = RunDirectory.open(folder)
    run.path("library").mkdir(exist_ok=True)
    json_writer({"value": 1})(run.path("library", "a.json"))
    return run


def read_teacher(path: Path) -> None:
    """Shape, then every weight; the tokenizer is not ours."""
    config = TeacherConfig(source=str(path))
    shape = read_shape(config)
    source = resolve(config, weights=True)
    import torch

    chain = chain_from_source(source, shape, str(path), torch.float32, "cpu")
    assert chain.shape == shape


_SHAPED: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
_SHAPED |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 264}
_SHAPED |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
_SHAPED |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "head_dim": 8}
_SHAPED |= {"rms_norm_eps": 1e-6, "eos_token_id": [257], "tie_word_embeddings": False}


PROFILES = Path(__file__).parents[1] / "profiling" / "examples"


def _example(name: str) -> Any:
    return json.loads((PROFILES / f"{name}.json").read_text())


def _csv(folder: Path) -> bytes:
    return write_csv(folder / "lib.csv", puzzle_data(2, 3)).read_bytes()


def _read_times(folder: Path) -> None:
    info = folder / "layers.json"
    nodes = read_node_times(folder / "times.json", info if info.exists() else None)
    by_layer(nodes, tiny_shape(), Architecture(), TargetConfig(threads=1), "decode")


def _read_layer_info(folder: Path) -> None:
    (folder / "times.json").write_text((PROFILES / "tensorrt_profile.json").read_text())
    _read_times(folder)


def text_targets(scratch: Path) -> list[Target]:
    """Every format of ours that is text."""
    rows = ",".join(ROW) + "\n" + ",".join(map(str, ROW.values())) + "\n"
    lines = "".join(json.dumps(item) + "\n" for item in (CHOICE, CHOICE))
    cloze = "".join(json.dumps(item) + "\n" for item in (CLOZE, CLOZE))
    documents = '{"text": "one two", "id": 1}\n\n{"text": "three"}\n'
    events = '{"time": 1.5, "event": "unit", "unit": "build/a"}\n{"time": 2, "event": "x"}\n'
    summary = example_summary().model_dump(mode="json")
    return [
        _target("config", "c.yaml", _read_config, CONFIG),
        _target("space", "s.yaml", _read_space, SPACE),
        _target("profile", "p.yaml", lambda f: load_profile(f / "p.yaml"), PROFILE),
        _target("puzzle", "lib.json", _read_library, puzzle_data(2, 3)),
        _target("problem", "lib.json", _read_library, PROBLEM),
        Target("library csv", "lib.csv", _read_library, _csv(scratch)),
        _target("costs", "t.json", _read_table, TABLE),
        _target("cost rows", "t.json", _read_table, [ROW, ROW]),
        Target("cost csv", "t.csv", _read_table, rows.encode()),
        Target("choices", "b.jsonl", _read_items, lines.encode(), None),
        Target("cloze", "b.jsonl", _read_items, cloze.encode(), None),
        _target("item", "b.jsonl", _read_items, CHOICE),
        Target("jsonl", "a.jsonl", _read_jsonl, documents.encode()),
        _target("document", "a.jsonl", _read_jsonl, {"text": "one", "id": [1]}),
        Target("text", "a.txt", _read_text, "Größe\nzwei\n".encode()),
        _target("record", "units/build/a.json", _read_record, RECORD),
        Target("events", "events.jsonl", _read_events, events.encode()),
        _target("run", "run.json", _read_marker, {"format": 1, "created": 1.5}),
        _target("plan", "plan.json", _read_plan, PLAN),
        _target("summary", "summary.json", lambda f: load_summary(f / "summary.json"), summary),
        _target("trace", "times.json", _read_times, trace({"layers.0.ffn.a": 3, "b": 2})),
        _target("layer times", "times.json", _read_times, _example("tensorrt_profile")),
        _target(
            "layer info", "layers.json", _read_layer_info, _example("tensorrt_layers_bindings")
        ),
        _target(
            "teacher", "config.json", lambda f: read_shape(TeacherConfig(source=str(f))), _SHAPED
        ),
    ]
