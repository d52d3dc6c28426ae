"""Latencies measured elsewhere, read from a file."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas._documents import load_json
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import ChainShape, Conditions, Latency, Phase
from nas.meters._base import Meter, Request
from nas.meters._costs import CostTable


class _Row(BaseModel):
    """One sample; rows with the same block and phase are samples of one latency.

    `network`: `network_key` of the decoder whose blocks these are, where whoever measured knew it.
    """

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
    network: str = ""

    def conditions(self) -> Conditions:
        return Conditions(**self.model_dump(exclude={"block", "latency_ms", "network"}))


@dataclass(frozen=True)
class MeasuredTable:
    """What a file holds; `network` is empty where the file does not say."""

    path: Path
    costs: CostTable
    network: str = ""

    def require_network(self, shape: ChainShape) -> None:
        """Raise ConfigError for blocks of another decoder, which may bear the same names."""
        if self.network and self.network != network_key(shape):
            raise ConfigError(
                f"{self.path}: measured for another teacher (network is {self.network!r}, this "
                f"one is {network_key(shape)!r}); write a pack for this run and measure it there"
            )


def network_key(shape: ChainShape) -> str:
    """Twelve digits that tell decoders of unlike sizes apart."""
    text = shape.model_dump_json(exclude={"family", "rope", "bos_token_id", "eos_token_ids"})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class TableMeter(Meter):
    """A table made on the target device.

    CSV, or JSON as a list of the same rows: `block` (`attention/kv3`, `ffn/w768`, `embed`, `head`),
    `phase`, `latency_ms`, and the conditions; several rows of a block are several samples. A JSON
    cost table that nas wrote on another machine is read too. Conditions that differ from the
    target's are refused by name, and so is a table of another network.
    """

    def __init__(self, config: TargetConfig, shape: ChainShape) -> None:
        super().__init__(config, shape)
        if config.table is None:
            raise ConfigError("target.table: target.meter is table, which needs the path of a file")
        self.path = config.table
        found = read_table(config.table)
        found.require_network(shape)
        self.table = found.costs
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


def read_table(path: Path) -> MeasuredTable:
    """Raises ConfigError for a file that is not there, no table, or mixes conditions."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".csv":
            return _from_rows(path, _csv_rows(text))
        data = load_json(text, unique=True)
        if isinstance(data, dict):
            return _of_one_machine(MeasuredTable(path, CostTable.model_validate(data)))
        return _from_rows(path, data)
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


def _from_rows(path: Path, data: Any) -> MeasuredTable:
    if not isinstance(data, list) or not data:
        raise ValueError("no rows")
    rows = [_Row.model_validate(row) for row in data]
    networks = sorted({row.network for row in rows})
    if len(networks) > 1:
        raise ValueError(f"rows of unlike networks do not mix; network: {networks}")
    grouped: dict[tuple[str, Phase], list[_Row]] = {}
    for row in rows:
        grouped.setdefault((row.block, row.phase), []).append(row)
    entries = []
    for (block, phase), same in grouped.items():
        conditions = same[0].conditions()
        for row in same[1:]:
            conditions.require_same(row.conditions())
        samples = [row.latency_ms for row in same]
        entries.append((block, phase, Latency.of(samples, conditions, "table")))
    return _of_one_machine(MeasuredTable(path, CostTable.of(entries), networks[0]))


def _of_one_machine(table: MeasuredTable) -> MeasuredTable:
    """Phases of a request add up, so they share all conditions but the phase itself."""
    costs = table.costs
    for phase in costs.phases[1:]:
        first, other = costs.conditions(costs.phases[0]), costs.conditions(phase)
        first.require_same(other.model_copy(update={"phase": first.phase}))
    return table


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
