"""Tables from elsewhere: samples, gaps, and conditions that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import GatedFeedForward
from nas.meters import Request, create_meter, network_key
from tests.chains import tiny_shape

HEADER = "block,phase,latency_ms,batch,prompt_tokens,dtype,threads,runtime,runtime_version,device\n"
TAIL = "1,16,float32,2,engine,1.0,board\n"
CSV = HEADER + f"embed,prefill,0.5,{TAIL}ffn/w20,prefill,3,{TAIL}ffn/w20,prefill,5,{TAIL}"


def meter(path: Path, text: str = CSV, **settings: object):
    path.write_text(text)
    config = {"meter": "table", "table": path, "prompt_tokens": 16, **settings}
    return create_meter(TargetConfig.model_validate(config), tiny_shape())


def test_rows_of_a_block_are_its_samples(tmp_path: Path) -> None:
    request = Request("ffn", "prefill", GatedFeedForward(width=20))
    (latency,) = meter(tmp_path / "t.csv").measure([request])
    assert latency.samples_ms == (3.0, 5.0)
    assert latency.source == "table"
    assert latency.conditions.device == "board"


def test_json_rows_read_alike(tmp_path: Path) -> None:
    names = HEADER.strip().split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in CSV.splitlines()[1:]]
    read = meter(tmp_path / "t.json", json.dumps(rows))
    assert read.table == meter(tmp_path / "t.csv").table


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 4}, r"batch is 1, target\.batch is 4"),
        ({"prompt_tokens": 64}, r"prompt_tokens is 16, target\.prompt_tokens is 64"),
        ({"dtype": "float16"}, r"dtype is 'float32', target\.dtype is 'float16'"),
        ({"threads": 8}, r"threads is 2, target\.threads is 8"),
    ],
)
def test_other_conditions_are_refused_by_name(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        meter(tmp_path / "t.csv", **settings)


def test_rows_measured_on_two_devices_do_not_mix(tmp_path: Path) -> None:
    mixed = CSV + "head,prefill,1,1,16,float32,2,engine,1.0,another\n"
    with pytest.raises(ConfigError, match="device: 'board' and 'another'"):
        meter(tmp_path / "t.csv", mixed)


def test_phases_of_a_request_come_from_one_machine(tmp_path: Path) -> None:
    mixed = CSV + "embed,decode,1,1,16,float32,4,engine,1.0,board\n"
    with pytest.raises(ConfigError, match="threads: 2 and 4"):
        meter(tmp_path / "t.csv", mixed)


def test_a_table_says_whose_blocks_it_holds(tmp_path: Path) -> None:
    header, *rows = CSV.splitlines()
    mine = network_key(tiny_shape())
    text = "\n".join([header + ",network", *(f"{row},{mine}" for row in rows)])
    assert meter(tmp_path / "t.csv", text).table == meter(tmp_path / "u.csv").table
    with pytest.raises(ConfigError, match="measured for another teacher"):
        meter(tmp_path / "t.csv", text.replace(mine, "another"))
    with pytest.raises(ConfigError, match="unlike networks do not mix"):
        meter(tmp_path / "t.csv", text.replace(mine, "another", 1))


def test_missing_blocks_are_named(tmp_path: Path) -> None:
    read = meter(tmp_path / "t.csv")
    with pytest.raises(ConfigError, match=r"head \(prefill\)"):
        read.measure([Request("embed", "prefill"), Request("head", "prefill")])
    with pytest.raises(ConfigError, match="no decode latencies"):
        read.conditions("decode")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", HEADER, "no rows"),
        ("t.csv", HEADER + f"embed,prefill,-1,{TAIL}", "latency_ms"),
        ("t.csv", "block,phase\nembed,prefill\n", "latency_ms"),
        ("t.json", "{", "not a latency table"),
        ("t.json", '{"entries": 3}', "entries"),
        ("t.json", "3", "no rows"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        meter(tmp_path / name, text)


def test_a_table_must_be_named_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"target\.table"):
        create_meter(TargetConfig(meter="table"), tiny_shape())
    with pytest.raises(ConfigError, match="no such file"):
        create_meter(TargetConfig(meter="table", table=tmp_path / "none.csv"), tiny_shape())
