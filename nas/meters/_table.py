"""Latencies measured elsewhere, read from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas._documents import load_json
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import Conditions, DecoderShape, Latency, Phase
from nas.meters._base import Meter, Request
from nas.meters._costs import CostTable


class _Row(BaseModel):
    """One sample; rows with the same block and phase are samples of one latency."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    block: str = Field(min_length=1)
    phase: Phase
    latency_ms: float = Field(gt=0)
    batch: int
    prompt_tokens: int
    dtype: str
    threads: int = 1
    runtime: str
    runtime_version: str
    device: str

    def conditions(self) -> Conditions:
        return Conditions(**self.model_dump(exclude={"block", "latency_ms"}))


class TableMeter(Meter):
    """A table made on the target device.

    CSV, or JSON as a list of the same rows: `block` (`attention/kv3`, `ffn/w768`, `embed`, `head`),
    `phase`, `latency_ms`, and the conditions; several rows of a block are several samples. A JSON
    cost table that nas wrote on another machine is read too. Conditions that differ from the
    target's are refused by name.
    """

    def __init__(self, config: TargetConfig, shape: DecoderShape) -> None:
        super().__init__(config, shape)
        if config.table is None:
            raise ConfigError("target.table: target.meter is table, which needs the path of a file")
        self.path = config.table
        self.table = _read(config.table)
        for phase in self.table.phases:
            self._require_target(self.table.conditions(phase))

    def conditions(self, phase: Phase) -> Conditions:
        if phase not in self.table.phases:
            raise ConfigError(f"{self.path}: no {phase} latencies; add them or drop the phase")
        return self.table.conditions(phase)

    def measure(self, requests: Sequence[Request]) -> list[Latency]:
        held = self.table.entries
        missing = [r for r in requests if r.phase not in held.get(r.key, {})]
        if missing:
            names = ", ".join(f"{r.key} ({r.phase})" for r in missing[:6])
            more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
            raise ConfigError(f"{self.path}: no latency for {names}{more}; add the rows")
        found = [held[request.key][request.phase] for request in requests]
        return [latency.model_copy(update={"source": "table"}) for latency in found]

    def _require_target(self, conditions: Conditions) -> None:
        wanted = {
            "batch": self.config.batch,
            "prompt_tokens": self.config.prompt_tokens,
            "dtype": self.config.dtype,
            "threads": self.config.threads or conditions.threads,
        }
        differing = [
            f"{name} is {getattr(conditions, name)!r}, target.{name} is {value!r}"
            for name, value in wanted.items()
            if getattr(conditions, name) != value
        ]
        if differing:
            raise ConfigError(
                f"{self.path}: measured under other conditions than the target's "
                f"({conditions.phase}): {'; '.join(differing)}"
            )


def _read(path: Path) -> CostTable:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".csv":
            return _from_rows(_csv_rows(text))
        data = load_json(text, unique=True)
        return CostTable.model_validate(data) if isinstance(data, dict) else _from_rows(data)
    except FileNotFoundError:
        raise ConfigError(f"target.table: {path}: no such file") from None
    except (OSError, ValueError, ConfigError) as error:
        detail = _first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"{path}: not a latency table: {detail}") from error


def _csv_rows(text: str) -> list[dict[str, str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [cells for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    for cells in lines[1:]:
        if len(cells) != len(lines[0]):
            raise ValueError(f"{len(lines[0])} columns, but a line of {len(cells)}: {cells[:3]}")
    if lines and len(set(lines[0])) < len(lines[0]):
        raise ValueError("a column stands there twice")
    return [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]


def _from_rows(rows: Any) -> CostTable:
    if not isinstance(rows, list) or not rows:
        raise ValueError("no rows")
    grouped: dict[tuple[str, Phase], list[_Row]] = {}
    for row in map(_Row.model_validate, rows):
        grouped.setdefault((row.block, row.phase), []).append(row)
    entries = []
    for (block, phase), same in grouped.items():
        conditions = same[0].conditions()
        for row in same[1:]:
            conditions.require_same(row.conditions())
        samples = [row.latency_ms for row in same]
        entries.append((block, phase, Latency.of(samples, conditions, "table")))
    return CostTable.of(entries)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
