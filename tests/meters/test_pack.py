"""The folder for another machine, run for real in ONNX Runtime by a process without nas."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nas.config import TargetConfig
from nas.errors import ConfigError, PassError
from nas.ir import (
    Candidate,
    GatedFeedForward,
    GroupedQueryAttention,
    LinearMap,
    Slot,
)
from nas.meters import TableMeter, create_meter, network_key, requests_for
from nas.meters.pack import Pack, write_pack
from tests.chains import tiny_shape

SHAPE = tiny_shape()
CONFIG = TargetConfig(prompt_tokens=6, batch=2, threads=1, repeats=3)
REQUESTS = requests_for(
    SHAPE,
    [
        Candidate(slot=Slot(layer=0, kind="ffn"), spec=GatedFeedForward(width=20)),
        Candidate(slot=Slot(layer=0, kind="ffn"), spec=LinearMap()),
        Candidate(slot=Slot(layer=0, kind="attention"), spec=GroupedQueryAttention(kv_heads=1)),
    ],
    ("prefill", "decode"),
)

ALONE = """
import runpy, sys
for name in ("nas", "torch", "onnx", "transformers"):
    sys.modules[name] = None  # an import of it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder: Path, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", ALONE, str(folder / "run.py"), *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pack]:
    folder = tmp_path_factory.mktemp("pack") / "carried"
    return folder, write_pack(folder, CONFIG, SHAPE, REQUESTS, "cpu")


@pytest.fixture(scope="module")
def table(pack: tuple[Path, Pack], tmp_path_factory: pytest.TempPathFactory) -> Path:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = elsewhere / "brought-back.csv"
    done = run(pack[0], "--output", str(path), cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(path)
    return path


def meter(table: Path, **settings: object) -> TableMeter:
    config = CONFIG.model_dump() | {"meter": "table", "table": table} | settings
    made = create_meter(TargetConfig.model_validate(config), SHAPE)
    assert isinstance(made, TableMeter)
    return made


def test_it_is_small_and_holds_no_weights(pack: tuple[Path, Pack]) -> None:
    folder, found = pack
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "graphs",
        "requests.json",
        "run.py",
    ]
    graphs = {graph for each in found.runs for graph in each.graphs}
    assert {str(p.relative_to(folder)) for p in (folder / "graphs").iterdir()} == graphs
    assert Pack.model_validate_json((folder / "requests.json").read_text()) == found


def test_a_graph_refers_to_as_many_weights_as_its_copies_have(pack: tuple[Path, Pack]) -> None:
    import onnx

    folder, found = pack
    (asked,) = [r for r in found.runs if (r.block, r.phase) == ("ffn/w20", "prefill")]
    assert asked.copies == 4
    for graph, copies in zip(asked.graphs, (4, 8), strict=True):
        model = onnx.load(str(folder / graph), load_external_data=False)
        outside = [t for t in model.graph.initializer if t.external_data]
        held = sum(int(entry.value) for t in outside for entry in t.external_data[2:3])
        assert held == 4 * copies * (3 * 32 * 20 + 32)
        ends = [int(t.external_data[1].value) + int(t.external_data[2].value) for t in outside]
        assert max(ends) <= found.weight_bytes


def test_every_request_comes_back_with_all_samples(table: Path) -> None:
    found = meter(table)
    for request, latency in zip(REQUESTS, found.measure(REQUESTS), strict=True):
        assert len(latency.samples_ms) == 3, request
        assert all(ms > 0 for ms in latency.samples_ms)


def test_conditions_travel_with_the_table(table: Path) -> None:
    import onnxruntime

    from nas.backends.onnxruntime import cpu_name

    held = meter(table).conditions("decode")
    assert (held.batch, held.prompt_tokens, held.dtype, held.threads) == (2, 6, "float32", 1)
    assert (held.runtime, held.runtime_version) == ("onnxruntime", onnxruntime.__version__)
    assert held.device == cpu_name()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 1}, r"batch is 2, target\.batch is 1"),
        ({"prompt_tokens": 7, "threads": 2}, r"prompt_tokens is 6.*threads is 1"),
    ],
)
def test_another_target_is_refused_by_field(
    table: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        meter(table, **settings)


def test_tables_taken_under_unlike_conditions_do_not_mix(table: Path, tmp_path: Path) -> None:
    with table.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[::2]:
        row.update(threads="2", device="another")
    mixed = tmp_path / "mixed.json"
    mixed.write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match=r"threads: 2 and 1, device: 'another' and"):
        meter(mixed)


def test_blocks_of_another_teacher_are_refused_though_they_bear_the_same_names(
    table: Path,
) -> None:
    config = CONFIG.model_dump() | {"meter": "table", "table": table}
    wider = tiny_shape(hidden_size=64)
    assert network_key(wider) != network_key(SHAPE)
    with pytest.raises(ConfigError, match="measured for another teacher"):
        create_meter(TargetConfig.model_validate(config), wider)


def refusals() -> Sequence[tuple[tuple[str, ...], str]]:
    return [
        (("--provider", "tensorrt"), "pip install onnxruntime-gpu"),
        (("--output", "table.csv"), "exists already"),
    ]


@pytest.mark.parametrize(("options", "message"), refusals())
def test_what_cannot_run_there_says_so(
    pack: tuple[Path, Pack], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "table.csv").write_text("kept")
    done = run(pack[0], *options, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert (tmp_path / "table.csv").read_text() == "kept"


def test_stacks_for_a_gpu_outgrow_its_caches(tmp_path: Path) -> None:
    shape = tiny_shape(hidden_size=1024)
    asked = requests_for(shape, [], ("decode",))[2:3]  # ffn/w48: 0.56 MiB a copy in float32
    found = write_pack(tmp_path / "p", CONFIG, shape, asked, "gpu")
    assert [r.copies for r in found.runs] == [64]
    assert found.weight_bytes >= 128 * 4 * 3 * 1024 * 48


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        write_pack(tmp_path, CONFIG, SHAPE, REQUESTS, "cpu")


def test_a_dtype_that_numpy_has_not_is_refused(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"dtype": "bfloat16"})
    with pytest.raises(ConfigError, match="float32 or float16"):
        write_pack(tmp_path / "p", config, SHAPE, REQUESTS, "gpu")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nas.meters.pack._write.shutil.copyfile", full)
    with pytest.raises(PassError, match="No space left"):
        write_pack(tmp_path / "p", CONFIG, SHAPE, REQUESTS[:1], "cpu")
    assert list(tmp_path.iterdir()) == []
